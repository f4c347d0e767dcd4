//! A disk in memory, cheap to copy: pages are shared until written.

use std::sync::Arc;

pub const PAGE: usize = 4096;

#[derive(Clone)]
pub struct Disk {
    /// None reads as zeros.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Disk {
    /// All zeros. The size is rounded up to whole pages.
    pub fn new(bytes: u64) -> Disk {
        Disk { pages: vec![None; bytes.div_ceil(PAGE as u64) as usize] }
    }

    pub fn size(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// What lies beyond the end is not read.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let length = length.min(self.size().saturating_sub(offset) as usize);
        let mut data = vec![0; length];
        for (page, at, part) in pieces(offset, length) {
            if let Some(page) = &self.pages[page] {
                data[part.clone()].copy_from_slice(&page[at..at + part.len()]);
            }
        }
        data
    }

    /// What lies beyond the end is dropped.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let length = data.len().min(self.size().saturating_sub(offset) as usize);
        for (page, at, part) in pieces(offset, length) {
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[at..at + part.len()].copy_from_slice(&data[part]);
        }
    }

    pub fn zero(&mut self, offset: u64, length: u64) {
        let length = length.min(self.size().saturating_sub(offset)) as usize;
        for (page, at, part) in pieces(offset, length) {
            if part.len() == PAGE {
                self.pages[page] = None;
            } else if let Some(page) = &mut self.pages[page] {
                Arc::make_mut(page)[at..at + part.len()].fill(0);
            }
        }
    }

    /// The pages that hold anything, with their offsets.
    pub fn written(&self) -> impl Iterator<Item = (u64, &[u8; PAGE])> {
        let pages = self.pages.iter().enumerate();
        pages.filter_map(|(at, page)| page.as_deref().map(|page| ((at * PAGE) as u64, page)))
    }
}

/// Cuts a range at page boundaries: page, offset in it, part of the range.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let position = offset + done as u64;
        let at = (position % PAGE as u64) as usize;
        let part = done..length.min(done + PAGE - at);
        done = part.end;
        Some(((position / PAGE as u64) as usize, at, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_copies_are_apart() {
        let mut disk = Disk::new(3 * PAGE as u64);
        let data: Vec<u8> = (0..5000).map(|n| n as u8 | 1).collect();
        disk.write(3000, &data);
        let copy = disk.clone();
        disk.zero(4000, 5000);
        assert_eq!(copy.read(3000, 5000), data);
        assert_eq!(disk.read(3000, 1000), data[..1000]);
        assert_eq!(disk.read(4000, 4000), vec![0; 4000]);
        assert_eq!(disk.read(2 * PAGE as u64, 9999).len(), PAGE);
        assert_eq!(copy.written().count(), 2);
    }
}
