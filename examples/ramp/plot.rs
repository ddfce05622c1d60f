//! A plot as SVG, small enough to be read as text.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 45.0;
const COLORS: [&str; 8] =
    ["#888888", "#b8860b", "#cc5500", "#c02020", "#8040c0", "#2060c0", "#208030", "#000000"];

/// Lines over the load, in milliseconds on a logarithmic scale.
pub(crate) fn svg(loads: &[f64], lines: &[(&str, Vec<f64>)]) -> String {
    let (least, most) = (100.0_f64, 6_000.0_f64);
    let x = |at: usize| LEFT + (WIDTH - LEFT - RIGHT) * at as f64 / (loads.len() - 1).max(1) as f64;
    let y = |ms: f64| {
        let part = (ms.clamp(least, most) / least).ln() / (most / least).ln();
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let mut line = |text: std::fmt::Arguments<'_>| {
        svg.write_fmt(text).expect("a string can be written to");
        svg.push('\n');
    };
    for ms in [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0] {
        let (y, end) = (y(ms), WIDTH - RIGHT);
        line(format_args!(
            "<path d=\"M{LEFT} {y:.0}H{end}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{ms} ms</text>",
            LEFT - 6.0,
            y + 4.0
        ));
    }
    for (at, load) in loads.iter().enumerate() {
        line(format_args!(
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{load:.2}</text>",
            x(at),
            HEIGHT - BOTTOM + 18.0
        ));
    }
    line(format_args!(
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">load, of the servers' allocation; \
         p99</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0
    ));
    // Names that would stand on each other make room.
    let mut names: Vec<(usize, f64)> =
        lines.iter().enumerate().map(|(at, (_, line))| (at, y(line[line.len() - 1]))).collect();
    names.sort_by(|a, b| a.1.total_cmp(&b.1));
    for at in 1..names.len() {
        names[at].1 = names[at].1.max(names[at - 1].1 + 14.0);
    }
    for (number, at) in names {
        let (name, values) = &lines[number];
        let color = COLORS[number % COLORS.len()];
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(at, &ms)| format!("{:.0},{:.0}", x(at), y(ms)))
            .collect();
        let points = points.join(" ");
        line(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" fill=\"{color}\">{name}</text>",
            WIDTH - RIGHT + 6.0,
            at + 4.0
        ));
    }
    svg.push_str("</svg>\n");
    svg
}
