//! Anchors as they are kept on disk.

use serde::Deserialize;

use super::arena::Arena;
use super::behind::Behind;
use super::block::Block;
use super::index::{Index, Spelling};
use super::needs::Needs;
use super::{Anchor, Anchors, Before, Heads, MARK};

/// What is read; [`Anchors::to_bytes`] writes the same.
#[derive(Deserialize)]
struct Kept {
    anchors: Vec<Anchor>,
    automata: Arena,
    spellings: Block<u8>,
    pairs: Block<u8>,
    marks: u32,
    heads: Heads,
    needs: Needs,
    behind: Vec<Behind>,
}

impl Anchors {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let kept = (
            &self.anchors,
            &self.automata,
            Block::from(self.index.to_bytes()),
            Block::from(self.pairs.to_bytes()),
            self.marks,
            &self.heads,
            &self.needs,
            &self.behind,
        );
        postcard::to_allocvec(&kept).expect("plain data, and memory is not limited here")
    }

    /// Reads bytes of [`Self::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let kept: Kept = postcard::from_bytes(bytes).ok()?;
        let spellings = Spelling::all_from_bytes(kept.spellings.all())?;
        let pairs = Spelling::all_from_bytes(kept.pairs.all())?;
        kept.is_whole(spellings.iter().chain(&pairs)).then(|| Self {
            anchors: kept.anchors,
            automata: kept.automata,
            index: Index::new(spellings),
            pairs: Index::new(pairs),
            marks: kept.marks,
            heads: kept.heads,
            needs: kept.needs,
            behind: kept.behind,
        })
    }
}

impl Kept {
    /// Whether every index lies within its table, and what must be in order is.
    fn is_whole<'a>(&self, mut spellings: impl Iterator<Item = &'a Spelling>) -> bool {
        let automata = self.automata.len();
        let is_anchor = |anchor: u32| (anchor as usize) < self.anchors.len();
        self.automata.is_whole()
            && spellings.all(|one| match one.anchor & MARK {
                0 => is_anchor(one.anchor),
                _ => one.anchor & !MARK < self.marks,
            })
            && self.behind.iter().all(|behind| is_anchor(behind.anchor))
            && self.behind.is_sorted_by_key(|behind| behind.anchor)
            && self.heads.iter().all(|head| is_anchor(head.anchor))
            && self
                .heads
                .is_sorted_by_key(|head| std::cmp::Reverse(head.text_bytes_max))
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
