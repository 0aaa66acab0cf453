//! Known values among the findings of a scan: what the finder finds, in the content and in every view of it, is a
//! finding of the rules that say `known:`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::find::{FINDINGS_MAX, SecretFinder, SecretForm};
use super::index::SecretIndex;
use super::store::SecretKind;
use crate::view::View;

/// What one scanner looks for besides patterns.
pub(crate) struct KnownValues {
    finder: SecretFinder,
    places: Vec<KnownPlace>,
}

/// A known value of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownPlace {
    /// Bytes of the content.
    pub(crate) span: Range<u32>,
    /// See [`SecretIndex::name`].
    pub(crate) secret: u32,
    /// The form it was seen in.
    pub(crate) view: View,
}

impl KnownValues {
    pub(crate) fn new(index: Arc<SecretIndex>) -> Self {
        Self {
            finder: SecretFinder::new(index),
            places: Vec::new(),
        }
    }

    pub(crate) fn index(&self) -> &Arc<SecretIndex> {
        self.finder.index()
    }

    /// A new content begins.
    pub(crate) fn begin(&mut self) {
        self.places.clear();
    }

    /// Looks at a part of one text of the content. `original` says which bytes of the content a part of the text
    /// stands for; `found` gets what was not found before. Whether everything found was kept.
    pub(crate) fn look(
        &mut self,
        text: &[u8],
        part: Range<usize>,
        view: View,
        original: impl Fn(Range<u32>) -> Range<u32>,
        mut found: impl FnMut(SecretKind, &KnownPlace),
    ) -> bool {
        let Self { finder, places } = self;
        let index = Arc::clone(finder.index());
        let seen = finder.find(&text[part.clone()]);
        let mut all = !seen.more;
        for one in seen.findings {
            let span = (part.start + one.span.start) as u32..(part.start + one.span.end) as u32;
            let place = KnownPlace {
                span: original(span),
                secret: one.secret,
                view: match view {
                    View::Raw => written(one.form),
                    other => other,
                },
            };
            let is_known = places.iter().any(|known| {
                known.secret == place.secret
                    && known.span.start < place.span.end
                    && place.span.start < known.span.end
            });
            if is_known {
                continue;
            }
            if places.len() == FINDINGS_MAX {
                all = false;
                break;
            }
            found(index.kind(place.secret), &place);
            places.push(place);
        }
        all
    }

    /// The entry found at this place: its name and kind.
    pub(crate) fn at(&self, span: &Range<u32>, kind: SecretKind) -> Option<&str> {
        let index = self.finder.index();
        self.places
            .iter()
            .find(|place| place.span == *span && index.kind(place.secret) == kind)
            .map(|place| index.name(place.secret))
    }
}

impl fmt::Debug for KnownValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownValues")
            .field("index", self.index())
            .field("places", &self.places.len())
            .finish_non_exhaustive()
    }
}

/// The view that stands for a writing.
const fn written(form: SecretForm) -> View {
    match form {
        SecretForm::Plain => View::Raw,
        SecretForm::Reversed => View::Reversed,
        SecretForm::Base64 | SecretForm::Hex => View::Decoded,
        SecretForm::Percent | SecretForm::Escaped | SecretForm::Entities => View::Unescaped,
    }
}
