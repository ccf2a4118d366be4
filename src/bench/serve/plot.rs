//! Plots as SVG, made here so that a report needs nothing from anywhere: axes with round numbers, lines, ticks, a
//! legend. Colours are classes; the page that holds the plot says what they look like in the light and in the dark.

use std::fmt::Write as _;

const WIDTH: f64 = 480.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
const LEGEND_LINE: f64 = 18.0;
/// What a character of a legend takes, about.
const CHAR_WIDTH: f64 = 6.2;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// By powers of ten; for values above 0.
    Log,
}

/// One axis: what it shows and from where to where.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub title: String,
    pub scale: Scale,
    pub min: f64,
    pub max: f64,
}

impl Axis {
    /// Takes in all values. Logarithmic where asked and where they are more than a factor of 20 apart.
    pub fn around(title: &str, values: impl Iterator<Item = f64> + Clone, may_be_log: bool) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let max = finite.clone().fold(f64::NEG_INFINITY, f64::max).max(1e-3);
        let least = finite.filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min).min(max);
        let title = title.to_owned();
        if may_be_log && max / least > 20.0 {
            return Self { title, scale: Scale::Log, min: least / 1.1, max: max * 1.1 };
        }
        Self { title, scale: Scale::Linear, min: 0.0, max: max * 1.04 }
    }

    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.min) / (self.max - self.min),
            Scale::Log => (value.max(self.min) / self.min).ln() / (self.max / self.min).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    /// Round numbers within the axis, about `wanted` of them.
    fn ticks(&self, wanted: usize) -> Vec<f64> {
        match self.scale {
            Scale::Linear => linear_ticks(self.min, self.max, wanted),
            Scale::Log => log_ticks(self.min, self.max, wanted),
        }
    }
}

fn linear_ticks(min: f64, max: f64, wanted: usize) -> Vec<f64> {
    let rough = (max - min) / wanted.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0) * power;
    let first = (min / step).ceil() as i64;
    let last = (max / step).floor() as i64;
    (first..=last).map(|number| number as f64 * step).collect()
}

/// Powers of ten, and where those are few 2 and 5 times them.
fn log_ticks(min: f64, max: f64, wanted: usize) -> Vec<f64> {
    let powers = min.log10().floor() as i32..=max.log10().ceil() as i32;
    let decades = (max / min).log10();
    let factors: &[f64] = match decades * 3.0 <= wanted as f64 {
        true => &[1.0, 2.0, 5.0],
        false => &[1.0],
    };
    let skipped = (decades / wanted as f64).ceil().max(1.0) as i32;
    let ticks = powers.filter(|power| power.rem_euclid(skipped) == 0);
    let all = ticks.flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
    all.filter(|tick| (min..=max).contains(tick)).collect()
}

/// `1500`, `2.5`, `0.02`, `20k`: as short as it can be said.
pub fn short(value: f64) -> String {
    let (value, suffix) = if value.abs() >= 10_000.0 { (value / 1000.0, "k") } else { (value, "") };
    let text = format!("{value:.3}");
    format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    /// Of the page's colours.
    pub color: usize,
    pub is_dashed: bool,
    pub has_dots: bool,
    pub points: Vec<(f64, f64)>,
}

/// Lines over two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct LinePlot {
    /// For those who cannot see it.
    pub label: String,
    pub x: Axis,
    pub y: Axis,
    /// Numbers that the vertical axis shows in place of round ones.
    pub y_ticks: Option<Vec<f64>>,
    pub series: Vec<Series>,
}

impl LinePlot {
    pub fn svg(&self) -> String {
        const HEIGHT: f64 = 250.0;
        let legend = legend_rows(self.series.iter().map(|series| series.name.as_str()));
        let top = TOP + legend.last().map_or(0, |item| item.row + 1) as f64 * LEGEND_LINE;
        let frame = Frame { top, bottom: top + HEIGHT - TOP - BOTTOM };
        let mut svg = Svg::new(&self.label, frame.bottom + BOTTOM);
        let y_ticks = self.y_ticks.clone().unwrap_or_else(|| self.y.ticks(5));
        for tick in y_ticks {
            let y = frame.y(&self.y, tick);
            svg.line("grid", (LEFT, y), (WIDTH - RIGHT, y));
            svg.text("tick end", (LEFT - 7.0, y + 4.0), &short(tick));
        }
        svg.x_axis(&self.x, frame);
        let middle = (frame.top + frame.bottom) / 2.0;
        svg.turned_text((14.0, middle), &self.y.title);
        for (series, item) in self.series.iter().zip(&legend) {
            let y = TOP + item.row as f64 * LEGEND_LINE + 2.0;
            let class = series.class();
            svg.line(&class, (LEFT + item.x, y), (LEFT + item.x + 20.0, y));
            svg.text("key", (LEFT + item.x + 26.0, y + 4.0), &series.name);
            let points: Vec<(f64, f64)> =
                series.points.iter().map(|(x, y)| (frame.x(&self.x, *x), frame.y(&self.y, *y))).collect();
            svg.path(&class, &points);
            if series.has_dots {
                for point in points {
                    svg.dot(&format!("dot c{}", series.color), point);
                }
            }
        }
        svg.end()
    }
}

impl Series {
    fn class(&self) -> String {
        format!("line c{}{}", self.color, if self.is_dashed { " dashed" } else { "" })
    }
}

/// One request of a timeline: moments on a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    pub name: String,
    pub color: usize,
    pub ticks: Vec<f64>,
    pub end: f64,
}

/// Requests one below the other, each from its beginning on.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    pub label: String,
    pub x: Axis,
    pub tracks: Vec<Track>,
}

impl Timeline {
    pub fn svg(&self) -> String {
        const ROW: f64 = 17.0;
        let legend = self.legend();
        let rows = legend_rows(legend.iter().map(|(name, _)| *name));
        let top = TOP + rows.last().map_or(0, |item| item.row + 1) as f64 * LEGEND_LINE;
        let frame = Frame { top, bottom: top + self.tracks.len() as f64 * ROW + 6.0 };
        let mut svg = Svg::new(&self.label, frame.bottom + BOTTOM);
        svg.x_axis(&self.x, frame);
        for ((name, color), item) in legend.iter().zip(&rows) {
            let y = TOP + item.row as f64 * LEGEND_LINE + 2.0;
            svg.dot(&format!("dot c{color}"), (LEFT + item.x + 12.0, y));
            svg.text("key", (LEFT + item.x + 26.0, y + 4.0), name);
        }
        for (index, track) in self.tracks.iter().enumerate() {
            let y = frame.top + (index as f64 + 0.5) * ROW + 3.0;
            let x = |at: f64| frame.x(&self.x, at);
            svg.text("tick end", (LEFT - 7.0, y + 4.0), &(index + 1).to_string());
            svg.line("track", (x(0.0), y), (x(track.end), y));
            for (number, tick) in track.ticks.iter().enumerate() {
                let (half, class) = if number == 0 { (6.5, "first") } else { (4.0, "token") };
                svg.line(&format!("{class} c{}", track.color), (x(*tick), y - half), (x(*tick), y + half));
            }
        }
        svg.end()
    }

    fn legend(&self) -> Vec<(&str, usize)> {
        let mut legend: Vec<(&str, usize)> = Vec::new();
        for track in &self.tracks {
            if !legend.iter().any(|(name, _)| *name == track.name) {
                legend.push((&track.name, track.color));
            }
        }
        legend
    }
}

/// Where a legend's item stands.
struct Item {
    row: usize,
    x: f64,
}

/// Items side by side as far as they fit, then on the next row.
fn legend_rows<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Item> {
    let room = WIDTH - RIGHT - LEFT;
    let (mut row, mut x) = (0, 0.0);
    let mut items = Vec::new();
    for name in names {
        let width = 26.0 + name.chars().count() as f64 * CHAR_WIDTH + 12.0;
        if x > 0.0 && x + width > room {
            (row, x) = (row + 1, 0.0);
        }
        items.push(Item { row, x });
        x += width;
    }
    items
}

/// The part of the picture that has the lines in it.
#[derive(Clone, Copy)]
struct Frame {
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(self, axis: &Axis, value: f64) -> f64 {
        LEFT + axis.place(value) * (WIDTH - RIGHT - LEFT)
    }

    fn y(self, axis: &Axis, value: f64) -> f64 {
        self.bottom - axis.place(value) * (self.bottom - self.top)
    }
}

struct Svg(String);

impl Svg {
    fn new(label: &str, height: f64) -> Self {
        let label = escaped(label);
        Self(format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{label}\">"))
    }

    fn x_axis(&mut self, axis: &Axis, frame: Frame) {
        for tick in axis.ticks(6) {
            let x = frame.x(axis, tick);
            self.line("grid", (x, frame.top), (x, frame.bottom));
            self.text("tick middle", (x, frame.bottom + 16.0), &short(tick));
        }
        self.line("axis", (LEFT, frame.bottom), (WIDTH - RIGHT, frame.bottom));
        self.text("title middle", ((LEFT + WIDTH - RIGHT) / 2.0, frame.bottom + 35.0), &axis.title);
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"));
    }

    fn dot(&mut self, class: &str, (x, y): (f64, f64)) {
        self.put(format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"));
    }

    fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        self.put(format_args!("<path class=\"{class}\" d=\""));
        for (index, (x, y)) in points.iter().enumerate() {
            self.put(format_args!("{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' }));
        }
        self.put(format_args!("\"/>"));
    }

    fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let text = escaped(text);
        self.put(format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
    }

    fn turned_text(&mut self, (x, y): (f64, f64), text: &str) {
        let text = escaped(text);
        let turn = format!("rotate(-90 {x:.1} {y:.1})");
        self.put(format_args!(
            "<text class=\"title middle\" x=\"{x:.1}\" y=\"{y:.1}\" transform=\"{turn}\">{text}</text>"
        ));
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.0.write_fmt(arguments).expect("a string takes every text");
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>");
        self.0
    }
}

/// Text for a page, wherever in it.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            char if char.is_control() => safe.push(' '),
            char => safe.push(char),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let check = |scale, min, max, want: &[f64]| {
            let ticks = Axis { title: String::new(), scale, min, max }.ticks(5);
            let is_same =
                ticks.len() == want.len() && ticks.iter().zip(want).all(|(a, b)| (a / b - 1.0).abs() < 1e-9 || a == b);
            assert!(is_same, "{min} {max}: {ticks:?}");
        };
        check(Scale::Linear, 0.0, 10.4, &[0.0, 5.0, 10.0]);
        check(Scale::Linear, 0.0, 104.0, &[0.0, 50.0, 100.0]);
        check(Scale::Linear, 0.0, 0.09, &[0.0, 0.02, 0.04, 0.06, 0.08]);
        check(Scale::Log, 3.0, 100.0, &[5.0, 10.0, 20.0, 50.0, 100.0]);
        check(Scale::Log, 1.0, 10_000.0, &[1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
    }

    #[test]
    fn axes_take_in_everything() {
        let values = [0.5, 3.0, 250.0];
        let log = Axis::around("ms", values.into_iter(), true);
        assert_eq!(log.scale, Scale::Log);
        assert!(values.iter().all(|value| (0.0..=1.0).contains(&log.place(*value))), "{log:?}");
        assert!(log.place(0.5) > 0.0 && log.place(250.0) < 1.0 && log.place(0.0) == 0.0);
        let linear = Axis::around("ms", values.into_iter(), false);
        assert_eq!((linear.scale, linear.min), (Scale::Linear, 0.0));
        // Nothing at all, and nothing but zeros, have an axis too.
        for values in [vec![], vec![0.0, 0.0]] {
            let axis = Axis::around("ms", values.into_iter(), true);
            assert!(axis.max > axis.min && !axis.ticks(5).is_empty(), "{axis:?}");
        }
    }

    #[test]
    fn numbers_are_short_and_names_harmless() {
        for (value, text) in [(0.0, "0"), (0.02, "0.02"), (2.5, "2.5"), (1500.0, "1500"), (20_000.0, "20k")] {
            assert_eq!(short(value), text);
        }
        assert_eq!(escaped("<a href='x'>&\"\n"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot; ");
    }

    #[test]
    fn long_legends_wrap() {
        let names = ["a".repeat(30), "b".repeat(30), "c".repeat(5)];
        let rows: Vec<usize> = legend_rows(names.iter().map(String::as_str)).iter().map(|item| item.row).collect();
        assert_eq!(rows, [0, 1, 1]);
    }
}
