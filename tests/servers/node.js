// An HTTP/2 server that refuses as its caller asks it to, by the path.
'use strict';
const http2 = require('node:http2');

const { NGHTTP2_REFUSED_STREAM, NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR,
        NGHTTP2_ENHANCE_YOUR_CALM } = http2.constants;

let streams = 0;
const held = [];

function answer(stream, text) {
  stream.respond({ ':status': 200 });
  stream.end(text);
}

function goAway(last) {
  last.session.lastId = last.id;
  last.session.goaway(NGHTTP2_NO_ERROR, last.id);
}

const server = http2.createServer();
// Clients reset streams and hang up: that is what they are here for.
server.on('sessionError', () => {});
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  // Node hands over even those above the id that it has named as the last. A server that keeps
  // its word (RFC 9113, section 6.8) doesn't look at them.
  if (stream.id > (stream.session.lastId ?? Infinity)) return;
  streams += 1;
  switch (headers[':path']) {
    case '/refuse': return stream.close(NGHTTP2_REFUSED_STREAM);
    case '/refuse-once':
      return streams === 1 ? stream.close(NGHTTP2_REFUSED_STREAM) : answer(stream, 'done');
    case '/cancel': return stream.close(NGHTTP2_CANCEL);
    case '/break': return stream.close(NGHTTP2_INTERNAL_ERROR);
    case '/calm': return stream.close(NGHTTP2_ENHANCE_YOUR_CALM);
    // Held until the connection goes away.
    case '/hold': return held.push(stream);
    // Those with an id up to this one's are answered.
    case '/goaway':
      goAway(stream);
      held.splice(0).filter((other) => other.id < stream.id).forEach((other) => answer(other, 'kept'));
      return answer(stream, 'last');
    // Nobody is answered.
    case '/goaway-and-die':
      goAway(stream);
      return setTimeout(() => stream.session.destroy(), 50);
    default: return answer(stream, 'hello');
  }
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
