//! A body that was too large to be collected.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// What was collected, the piece that did not fit, and the rest as it comes.
    pub(super) struct Over<B> {
        pub(super) read: Bytes,
        pub(super) piece: Bytes,
        #[pin]
        pub(super) rest: B,
    }
}

impl<B: Body> Body for Over<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        for bytes in [this.read, this.piece] {
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
            }
        }
        let frame = this.rest.poll_frame(cx);
        frame.map_ok(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.piece.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = (self.read.len() + self.piece.len()) as u64;
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint.set_lower(rest.lower().saturating_add(ahead));
        hint
    }
}
