//! Anchors as they are kept on disk: a little that is read, and large tables that stay where they
//! lie.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::arena::{Arena, Packed};
use super::behind::Behind;
use super::head::Heads;
use super::index::Index;
use super::needs::Needs;
use super::{Anchor, Anchors, Before, Extent, MARK};
use crate::engine::{Packer, Region, Unpacker};

/// What is read.
#[derive(Deserialize)]
struct Kept<'a> {
    anchors: Vec<Anchor>,
    extents: Vec<Extent>,
    automata: Vec<Packed>,
    index: &'a [u8],
    pairs: &'a [u8],
    marks: u32,
    heads: Heads,
    needs: Needs,
    behind: Vec<Behind>,
}

/// The same as it is written.
#[derive(Serialize)]
struct Keep<'a> {
    anchors: &'a [Anchor],
    extents: &'a [Extent],
    automata: &'a [Packed],
    index: Vec<u8>,
    pairs: Vec<u8>,
    marks: u32,
    heads: &'a Heads,
    needs: &'a Needs,
    behind: &'a [Behind],
}

impl Anchors {
    /// What [`Self::from_parts`] reads, and what must be in its region.
    pub(crate) fn to_parts(&self) -> (Vec<u8>, Packer) {
        let keep = Keep {
            anchors: &self.anchors,
            extents: &self.extents,
            automata: &self.automata.automata,
            index: self.index.to_bytes(),
            pairs: self.pairs.to_bytes(),
            marks: self.marks,
            heads: &self.heads,
            needs: &self.needs,
            behind: &self.behind,
        };
        let head =
            postcard::to_allocvec(&keep).expect("plain data, and memory is not limited here");
        let mut packer = Packer::default();
        self.automata.pack(&mut packer);
        (head, packer)
    }

    /// Reads what [`Self::to_parts`] gave.
    pub(crate) fn from_parts(head: &[u8], region: &Arc<Region>) -> Option<Self> {
        let kept: Kept<'_> = postcard::from_bytes(head).ok()?;
        let mut tables = Unpacker::new(Arc::clone(region));
        let mut anchors = Self {
            anchors: kept.anchors,
            extents: kept.extents,
            automata: Arena::unpack(kept.automata, &mut tables)?,
            marks: kept.marks,
            heads: kept.heads,
            needs: kept.needs,
            behind: kept.behind,
            index: Index::from_bytes(kept.index)?,
            pairs: Index::from_bytes(kept.pairs)?,
        };
        // Every table was looked at from end to end, which need not cost memory from now on.
        region.give_back();
        if !tables.is_at_end() || !anchors.is_whole() {
            return None;
        }
        anchors.set_first();
        Some(anchors)
    }

    /// Whether every index lies within its table, and what must be in order is.
    fn is_whole(&self) -> bool {
        let automata = self.automata.len();
        let is_anchor = |anchor: u32| (anchor as usize) < self.anchors.len();
        let mut spelt = self.index.anchors().chain(self.pairs.anchors());
        spelt.all(|anchor| match anchor & MARK {
            0 => is_anchor(anchor),
            _ => anchor & !MARK < self.marks,
        }) && self.behind.iter().all(|behind| is_anchor(behind.anchor))
            && self.behind.is_sorted_by_key(|behind| behind.anchor)
            && self.heads.iter().all(|head| is_anchor(head.anchor))
            && self
                .heads
                .is_sorted_by_key(|head| std::cmp::Reverse(head.text_bytes_max))
            && self.extents.len() == self.anchors.len()
            && self.anchors.iter().all(|anchor| {
                let index = match anchor.before {
                    Before::Automaton { index, .. } => index,
                    Before::Here | Before::Far { .. } => 0,
                };
                self.automata.has_state(anchor.forward, anchor.known.state)
                    && (index as usize) < automata
                    && self.needs.has(anchor.needs)
                    && anchor.after.is_none_or(|(mark, _)| mark < self.marks)
            })
    }
}

/// The same anchors as they are read from a file.
#[cfg(test)]
pub(super) fn again(anchors: &Anchors) -> Anchors {
    let (head, tables) = anchors.to_parts();
    let tables = tables.into_bytes();
    let mut filling = crate::engine::Filling::new(&std::env::temp_dir(), tables.len());
    filling.push(&tables).unwrap();
    Anchors::from_parts(&head, &filling.finish().unwrap()).unwrap()
}
