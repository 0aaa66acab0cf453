//! Known values among the findings of a scan: what the finders find, in the content and in every view of it, is a
//! finding of the rules that say `known:`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use oktsec_rules::Known;

use super::find::{FINDINGS_MAX, SecretFinder, SecretForm};
use super::index::SecretIndex;
use super::store::SecretKind;
use crate::view::View;

/// What one scanner looks for besides patterns.
#[derive(Default)]
pub(crate) struct KnownValues {
    /// Entries of the operator's store.
    store: Option<SecretFinder>,
    /// What the sender of the content was given before.
    seen: Option<SecretFinder>,
    /// The site that the content goes to: what came from there may go back.
    home: String,
    /// The host that the content goes to or comes from: what belongs to it may. Empty for content of another kind.
    host: String,
    places: Vec<KnownPlace>,
}

/// A known value of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownPlace {
    /// Bytes of the content.
    pub(crate) span: Range<u32>,
    pub(crate) known: Known,
    /// See [`SecretIndex::name`].
    secret: u32,
    /// The form it was seen in.
    pub(crate) view: View,
}

impl KnownValues {
    /// Whether there is nothing to look for.
    pub(crate) fn is_empty(&self) -> bool {
        self.store.is_none() && self.seen.is_none()
    }

    /// Bytes of the longest of them, however it may be written.
    pub(crate) fn overlap_bytes(&self) -> usize {
        let finders = self.store.iter().chain(&self.seen);
        let bytes = finders.map(|finder| finder.index().overlap_bytes());
        bytes.max().unwrap_or(0)
    }

    pub(crate) fn set_store(&mut self, index: Option<&Arc<SecretIndex>>) {
        set(&mut self.store, index);
    }

    pub(crate) fn set_seen(&mut self, index: Option<&Arc<SecretIndex>>, home: &str) {
        set(&mut self.seen, index);
        if self.seen.is_some() {
            home.clone_into(&mut self.home);
        }
    }

    pub(crate) fn set_host(&mut self, host: &str) {
        host.clone_into(&mut self.host);
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
        mut found: impl FnMut(&KnownPlace),
    ) -> bool {
        let Self {
            store,
            seen,
            home,
            host,
            places,
        } = self;
        let mut all = true;
        for (finder, is_seen) in [(store, false), (seen, true)] {
            let Some(finder) = finder else {
                continue;
            };
            let index = Arc::clone(finder.index());
            let here = finder.find(&text[part.clone()]);
            all &= !here.more;
            // What several have given may go back to each of them.
            let is_home = |span: &Range<usize>| {
                let mut others = here.findings.iter().filter(|other| other.span == *span);
                is_seen && others.any(|other| index.name(other.secret) == home)
            };
            for one in here.findings {
                let known = match index.kind(one.secret) {
                    _ if is_home(&one.span) => continue,
                    _ if !is_seen && index.belongs_to(one.secret, host) => continue,
                    _ if is_seen => Known::Seen,
                    SecretKind::Value => Known::Value,
                    SecretKind::Canary => Known::Canary,
                };
                let span = (part.start + one.span.start) as u32..(part.start + one.span.end) as u32;
                let place = KnownPlace {
                    span: original(span),
                    known,
                    secret: one.secret,
                    view: match view {
                        View::Raw => written(one.form),
                        other => other,
                    },
                };
                let is_known = places.iter().any(|other| {
                    (other.known, other.secret) == (place.known, place.secret)
                        && other.span.start < place.span.end
                        && place.span.start < other.span.end
                });
                if is_known {
                    continue;
                }
                if places.len() == FINDINGS_MAX {
                    return false;
                }
                found(&place);
                places.push(place);
            }
        }
        all
    }

    /// Whether what was found at this place belongs to hosts.
    pub(crate) fn is_bound(&self, span: &Range<u32>) -> bool {
        self.is_value_at(span, SecretIndex::is_bound)
    }

    /// Whether what was found at this place belongs to this host.
    pub(crate) fn belongs_to(&self, span: &Range<u32>, host: &str) -> bool {
        self.is_value_at(span, |index, secret| index.belongs_to(secret, host))
    }

    /// Whether a value of the store that was found at this place is such a one.
    fn is_value_at(&self, span: &Range<u32>, is: impl Fn(&SecretIndex, u32) -> bool) -> bool {
        let Some(store) = &self.store else {
            return false;
        };
        let mut values = self
            .places
            .iter()
            .filter(|place| place.known == Known::Value);
        values.any(|place| place.span == *span && is(store.index(), place.secret))
    }

    /// The name of the entry found at this place.
    pub(crate) fn at(&self, span: &Range<u32>, known: Known) -> Option<&str> {
        let finder = match known {
            Known::Value | Known::Canary => self.store.as_ref(),
            Known::Seen => self.seen.as_ref(),
        };
        let mut places = self.places.iter();
        let place = places.find(|place| place.span == *span && place.known == known)?;
        Some(finder?.index().name(place.secret))
    }
}

/// Changes over to another index, if it is another.
fn set(finder: &mut Option<SecretFinder>, index: Option<&Arc<SecretIndex>>) {
    let index = index.filter(|index| !index.is_empty());
    let same = match (&*finder, index) {
        (None, None) => true,
        (Some(finder), Some(index)) => Arc::ptr_eq(finder.index(), index),
        (None, Some(_)) | (Some(_), None) => false,
    };
    if !same {
        *finder = index.map(|index| SecretFinder::new(Arc::clone(index)));
    }
}

impl fmt::Debug for KnownValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownValues")
            .field("store", &self.store.as_ref().map(SecretFinder::index))
            .field("seen", &self.seen.as_ref().map(SecretFinder::index))
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
