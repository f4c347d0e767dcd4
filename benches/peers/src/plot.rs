//! The plots, as SVG on a light ground of their own, so that they can be read on a dark page too.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Outcome;
use crate::report::{named, three};
use crate::run::{Results, Row};
use crate::saves::Side;

const GROUND: RGBColor = RGBColor(252, 252, 250);
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(215, 215, 215);
const WIDTH: u32 = 900;
const ROW: i32 = 26;
const GAP: i32 = 12;
const TOP: i32 = 92;
const LEFT: i32 = 300;
const RIGHT: i32 = 830;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

pub(crate) fn draw_all(results: &[Results], out: &Path) -> Outcome {
    let Some(first) = results.first() else { return Ok(()) };
    let on = |what: &str| format!("{what}, {}", first.label);
    let len = first.set_len;
    Bars {
        title: on("One save: 4 KiB, replacing a warm file"),
        axis: "time, as a multiple of the raw sequence (log scale; left of 1 is faster)",
        bars: first
            .saves
            .iter()
            .map(|row| Bar::new(row, 1.0 / row.times.speed(&first.saves[0].times)))
            .collect(),
    }
    .draw(&out.join("one-save.svg"))?;
    for (rows, what, file) in
        [(&first.new_files, "new", "new-files.svg"), (&first.replaced, "replaced", "replaced-files.svg")]
    {
        Bars {
            title: on(&format!("{len} {what} files of 1 KiB in one directory")),
            axis: "times faster than a loop of raw saves (log scale; right of 1 is faster)",
            bars: rows.iter().map(|row| Bar::new(row, row.times.speed(&rows[0].times))).collect(),
        }
        .draw(&out.join(file))?;
    }
    file_systems(results).draw(&out.join("file-systems.svg"))?;
    per_file(first, &out.join("per-file.svg"))
}

struct Bar {
    /// Bars of one group stand close together.
    group: usize,
    name: String,
    side: Side,
    value: f64,
}

impl Bar {
    fn new(row: &Row, value: f64) -> Self {
        Self { group: 0, name: row.name.to_owned(), side: row.side, value }
    }
}

/// Horizontal bars on a logarithmic scale, from 1, where the raw loop stands.
struct Bars {
    title: String,
    axis: &'static str,
    bars: Vec<Bar>,
}

/// The new files once more: ours and the best peer on each file system.
fn file_systems(results: &[Results]) -> Bars {
    let mut bars = Vec::new();
    for (group, on) in results.iter().enumerate() {
        let raw = &on.new_files[0].times;
        let ours = ["Batch, Auto", "Batch, FileSystem", "Batch, single_flush", "Transaction, Auto"];
        for name in ours {
            let row = named(&on.new_files, name);
            bars.push(Bar {
                group,
                name: format!("{}: {name}", on.label),
                ..Bar::new(row, row.times.speed(raw))
            });
        }
        let peers = on.new_files.iter().filter(|row| row.side == Side::Peer);
        let best = peers.max_by(|a, b| a.times.speed(raw).total_cmp(&b.times.speed(raw)));
        bars.extend(best.map(|row| Bar {
            group,
            name: format!("{}: best peer ({})", on.label, row.name.split(',').next().unwrap_or_default()),
            ..Bar::new(row, row.times.speed(raw))
        }));
    }
    let len = results.first().map_or(0, |first| first.set_len);
    Bars {
        title: format!("{len} new files of 1 KiB in one directory, on each file system"),
        axis: "times faster than a loop of raw saves (log scale; right of 1 is faster)",
        bars,
    }
}

impl Bars {
    fn draw(mut self, path: &Path) -> Outcome {
        self.bars.retain(|bar| bar.side != Side::Raw && bar.value.is_finite() && bar.value > 0.0);
        let gaps = self.bars.last().map_or(0, |bar| bar.group as i32 * GAP);
        let bottom = TOP + ROW * self.bars.len() as i32 + gaps;
        let root = SVGBackend::new(path, (WIDTH, (bottom + 64) as u32)).into_drawing_area();
        root.fill(&GROUND)?;
        root.draw_text(&self.title, &style(21, HPos::Left), (20, 26))?;
        legend(&root, &self.bars)?;
        let scale = Scale::of(&self.bars);
        for (tick, label) in scale.ticks() {
            let x = scale.at(tick);
            let colour = if tick == 1.0 { INK } else { GRID };
            root.draw(&PathElement::new([(x, TOP - 4), (x, bottom + 4)], colour))?;
            root.draw_text(&label, &style(14, HPos::Center), (x, bottom + 18))?;
        }
        for (at, bar) in self.bars.iter().enumerate() {
            let middle = TOP + ROW * at as i32 + ROW / 2 + GAP * bar.group as i32;
            let (one, end) = (scale.at(1.0), scale.at(bar.value));
            let corners = [(one.min(end), middle - 8), (one.max(end), middle + 8)];
            root.draw(&Rectangle::new(corners, colour(bar.side).filled()))?;
            root.draw_text(&bar.name, &style(15, HPos::Right), (LEFT - 12, middle))?;
            let (side, gap) = if end < one { (HPos::Right, -5) } else { (HPos::Left, 5) };
            root.draw_text(&three(bar.value), &style(14, side), (end + gap, middle))?;
        }
        root.draw_text(self.axis, &style(14, HPos::Center), ((LEFT + RIGHT) / 2, bottom + 44))?;
        Ok(root.present()?)
    }
}

fn legend(root: &Canvas<'_>, bars: &[Bar]) -> Outcome {
    let mut x = 20;
    for (side, text) in [
        (Side::Ours, "durafile"),
        (Side::Peer, "other crates"),
        (Side::Floor, "promises less: not atomic, or not durable"),
    ] {
        if bars.iter().all(|bar| bar.side != side) {
            continue;
        }
        root.draw(&Rectangle::new([(x, 52), (x + 14, 66)], colour(side).filled()))?;
        root.draw_text(text, &style(14, HPos::Left), (x + 20, 59))?;
        x += 60 + 8 * text.len() as i32;
    }
    Ok(())
}

fn colour(side: Side) -> RGBColor {
    match side {
        Side::Ours => RGBColor(0, 114, 178),
        Side::Peer => RGBColor(213, 120, 40),
        Side::Floor | Side::Raw => RGBColor(165, 165, 165),
    }
}

fn style(size: u32, side: HPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK).pos(Pos::new(side, VPos::Center))
}

/// Logarithmic, from one place on the canvas to another.
struct Scale {
    low: f64,
    high: f64,
    from: i32,
    to: i32,
}

impl Scale {
    /// With room for the figure at each end.
    fn of(bars: &[Bar]) -> Self {
        let values = || bars.iter().map(|bar| bar.value);
        let low = values().fold(1.0, f64::min);
        let low = if low < 0.98 { low * 0.6 } else { 1.0 };
        Self { low, high: values().fold(1.0, f64::max) * 1.15, from: LEFT, to: RIGHT }
    }

    fn around(values: impl Iterator<Item = f64> + Clone, (from, to): (i32, i32)) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min) * 0.8;
        Self { low, high: values.fold(low, f64::max) * 1.25, from, to }
    }

    fn at(&self, value: f64) -> i32 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + (share * f64::from(self.to - self.from)) as i32
    }

    /// 1, 2, 5, 10 and so on.
    fn ticks(&self) -> Vec<(f64, String)> {
        let decades = (-3..7).flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)));
        let inside = |tick: &f64| (self.low * 0.999..=self.high).contains(tick);
        decades.filter(inside).map(|tick| (tick, format!("{}", (tick * 1e4).round() / 1e4))).collect()
    }
}

/// Lines on two logarithmic scales.
fn per_file(on: &Results, path: &Path) -> Outcome {
    const BOTTOM: i32 = 400;
    let root = SVGBackend::new(path, (WIDTH, 470)).into_drawing_area();
    root.fill(&GROUND)?;
    let title = format!("What a file costs in a batch of new files of 1 KiB, {}", on.label);
    root.draw_text(&title, &style(21, HPos::Left), (20, 26))?;
    root.draw_text(
        "microseconds for each file (log scale; lower is better)",
        &style(14, HPos::Left),
        (20, 56),
    )?;
    let points = || on.sizes.iter().flat_map(|series| &series.points);
    let across = Scale::around(points().map(|(len, _)| *len as f64), (90, 680));
    let up = Scale::around(points().map(|(_, us)| *us), (BOTTOM, TOP));
    for (tick, label) in up.ticks() {
        root.draw(&PathElement::new([(90, up.at(tick)), (680, up.at(tick))], GRID))?;
        root.draw_text(&label, &style(14, HPos::Right), (82, up.at(tick)))?;
    }
    for (tick, label) in across.ticks().into_iter().filter(|(tick, _)| tick.log10().fract() == 0.0) {
        root.draw(&PathElement::new([(across.at(tick), TOP), (across.at(tick), BOTTOM)], GRID))?;
        root.draw_text(&label, &style(14, HPos::Center), (across.at(tick), BOTTOM + 18))?;
    }
    root.draw_text("files in the batch (log scale)", &style(14, HPos::Center), (385, BOTTOM + 48))?;
    let colours =
        [RGBColor(0, 114, 178), RGBColor(140, 140, 140), RGBColor(0, 140, 100), RGBColor(204, 90, 160)];
    for (at, (series, colour)) in on.sizes.iter().zip(colours).enumerate() {
        let spots: Vec<(i32, i32)> =
            series.points.iter().map(|&(len, us)| (across.at(len as f64), up.at(us))).collect();
        for &spot in &spots {
            root.draw(&Circle::new(spot, 4, colour.filled()))?;
        }
        root.draw(&PathElement::new(spots, colour.stroke_width(3)))?;
        let y = TOP + 20 + ROW * at as i32;
        root.draw(&PathElement::new([(705, y), (730, y)], colour.stroke_width(3)))?;
        root.draw_text(&format!("Batch, {}", series.name), &style(15, HPos::Left), (738, y))?;
    }
    Ok(root.present()?)
}
