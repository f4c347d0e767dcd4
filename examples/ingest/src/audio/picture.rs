//! The waveform as a PNG image.

use super::analysis::Span;
use super::{Block, Signal};
use crate::failure::{Failure, Outcome};
use crate::stage::Watch;

const WIDTH: usize = 1200;
const HEIGHT: usize = 240;
/// Colours by number: background, silence, middle line, peaks, and the body of the sound.
const PALETTE: [u8; 15] = [248, 250, 252, 233, 237, 243, 203, 213, 225, 125, 168, 232, 37, 99, 196];
const SILENCE: u8 = 1;
const MIDDLE: u8 = 2;
const PEAK: u8 = 3;
const BODY: u8 = 4;

pub(crate) fn draw(signal: &Signal, silences: &[Span], watch: &Watch) -> Outcome<Vec<u8>> {
    let mut canvas = Canvas { pixels: vec![0; WIDTH * HEIGHT] };
    let per_second = WIDTH as f64 / signal.seconds();
    for span in silences {
        let column = |seconds: f64| (seconds * per_second) as usize;
        for x in column(span.start)..column(span.end).min(WIDTH) {
            canvas.line(x, 0, HEIGHT - 1, SILENCE);
        }
    }
    let middle = row_of(0.0);
    for x in 0..WIDTH {
        watch.check()?;
        canvas.line(x, middle, middle, MIDDLE);
        let column = column(&signal.blocks, x);
        canvas.line(x, row_of(column.max), row_of(column.min), PEAK);
        let rms = column.power.sqrt();
        canvas.line(x, row_of(rms.min(column.max)), row_of((-rms).max(column.min)), BODY);
    }
    encode(&canvas.pixels).map_err(|e| Failure::Disk(e.into()))
}

/// What is to be seen in one column: at least one block.
fn column(blocks: &[Block], x: usize) -> Block {
    let first = x * blocks.len() / WIDTH;
    let last = ((x + 1) * blocks.len() / WIDTH).max(first + 1);
    let part = blocks.get(first..last.min(blocks.len())).unwrap_or_default();
    let power: f32 = part.iter().map(|block| block.power).sum();
    Block {
        min: part.iter().map(|block| block.min).fold(0.0, f32::min),
        max: part.iter().map(|block| block.max).fold(0.0, f32::max),
        power: if part.is_empty() { 0.0 } else { power / part.len() as f32 },
    }
}

fn row_of(level: f32) -> usize {
    let half = (HEIGHT - 1) as f32 / 2.0;
    (half - level.clamp(-1.0, 1.0) * half).round() as usize
}

struct Canvas {
    pixels: Vec<u8>,
}

impl Canvas {
    fn line(&mut self, x: usize, top: usize, bottom: usize, colour: u8) {
        for y in top..=bottom {
            if let Some(pixel) = self.pixels.get_mut(y * WIDTH + x) {
                *pixel = colour;
            }
        }
    }
}

fn encode(pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut image = Vec::new();
    let mut encoder = png::Encoder::new(&mut image, WIDTH as u32, HEIGHT as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(&PALETTE[..]);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(image)
}
