//! How values are read from the tree: every mistake is noted with its place, and reading goes on.

use super::effects;
use super::env::Env;
use super::period::Period;
use super::problem::{Level, Problem};
use super::secret::Secret;
use super::yaml::{Entry, Kind, Node, Position};
use crate::verdict::Mode;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use super::yaml::below;

/// Values one file may have, aliases counted every time they are used.
const VALUES_MAX: usize = 200_000;

/// A value of the configuration.
pub(crate) trait Field: Sized {
    /// Reads it; `None` if it was wrong, which has been noted, or says nothing.
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self>;

    /// Writes its leaves under their keys, to compare two configurations.
    fn flatten(&self, path: &str, flat: &mut Flat);

    /// What a map entry without a value means, if that is allowed.
    fn absent() -> Option<Self> {
        None
    }

    /// What names it in a list.
    fn label(&self) -> Option<&str> {
        None
    }
}

/// Every leaf of a configuration by its key.
#[derive(Debug, Default)]
pub(crate) struct Flat(pub(crate) BTreeMap<String, Leaf>);

/// A leaf; the text of a secret is compared and never shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) text: String,
    pub(crate) secret: bool,
}

impl Flat {
    pub(crate) fn leaf(&mut self, path: &str, text: impl Into<String>) {
        self.0.insert(path.to_owned(), Leaf { text: text.into(), secret: false });
    }

    fn secret(&mut self, path: &str, text: &str) {
        self.0.insert(path.to_owned(), Leaf { text: text.to_owned(), secret: true });
    }
}

/// A step from the top of the file to a value.
#[derive(Clone, Debug)]
enum Step {
    Key(&'static str),
    Entry(String),
    Item(usize),
}

/// Reads a tree and collects what is wrong with it.
pub(crate) struct Reader<'a> {
    file: &'a Path,
    /// Folder that relative paths start from.
    base: PathBuf,
    pub(crate) env: &'a Env,
    steps: Vec<Step>,
    values: usize,
    /// Id of the list entry being read, for texts that name it.
    pub(crate) entry_id: String,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a Path, base: PathBuf, env: &'a Env) -> Self {
        Self { file, base, env, steps: Vec::new(), values: 0, entry_id: String::new(), problems: Vec::new() }
    }

    /// The key of the value being read.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Key(key) => path = below(&path, key),
                Step::Entry(key) => path = below(&path, key),
                Step::Item(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    fn pattern(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Key(key) => path = below(&path, key),
                Step::Entry(_) => path = below(&path, "*"),
                Step::Item(_) => path.push_str("[]"),
            }
        }
        path
    }

    /// Notes a problem at a place.
    pub(crate) fn note(
        &mut self,
        level: Level,
        at: Option<Position>,
        key: String,
        message: impl Into<String>,
        remedy: impl Into<Option<String>>,
    ) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: at.map(|p| p.line),
            column: at.map(|p| p.column),
            key,
            message: message.into(),
            remedy: remedy.into(),
            level,
        });
    }

    /// Notes an error about the value being read; gives `None`, for use with `return`.
    pub(crate) fn refuse<T>(
        &mut self,
        node: &Node,
        message: impl Into<String>,
        remedy: &str,
    ) -> Option<T> {
        let key = self.path();
        self.note(Level::Error, Some(node.at), key, message, Some(remedy.to_owned()));
        None
    }

    /// Notes a warning about the value being read.
    pub(crate) fn warn(&mut self, at: Position, message: impl Into<String>, remedy: &str) {
        let key = self.path();
        let remedy = (!remedy.is_empty()).then(|| remedy.to_owned());
        self.note(Level::Warning, Some(at), key, message, remedy);
    }

    /// The entries of a map.
    pub(crate) fn map<'n>(&mut self, node: &'n Node) -> Option<&'n [Entry]> {
        match &node.kind {
            Kind::Map(entries) => Some(entries),
            Kind::List(_) | Kind::Scalar { .. } => {
                let found = node.describe();
                self.refuse(node, format!("expected keys with values, found {found}"), "write key: value lines below it")
            }
        }
    }

    /// Warns about keys that are not ours. `x-` keys are the user's own, for anchors.
    pub(crate) fn known(&mut self, map: &[Entry], keys: &[&'static str]) {
        for entry in map {
            if keys.contains(&entry.key.as_str()) || entry.key.starts_with("x-") || entry.merged {
                continue;
            }
            let key = below(&self.path(), &entry.key);
            let ignored = effects::ignored_key(&below(&self.pattern(), &entry.key));
            let (message, remedy) = match (ignored, nearest(&entry.key, keys)) {
                (Some(why), _) => (format!("ignored: {why}"), None),
                (None, Some(near)) => {
                    (String::from("unknown key, ignored"), Some(format!("did you mean {near}?")))
                }
                (None, None) => (String::from("unknown key, ignored"), None),
            };
            self.note(Level::Warning, Some(entry.key_at), key, message, remedy);
        }
    }

    /// Reads the value of a key, if it is there and says something.
    pub(crate) fn field<T>(
        &mut self,
        map: &[Entry],
        key: &'static str,
        read: fn(&Node, &mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        let entry = map.iter().find(|e| e.key == key)?;
        if entry.value.is_null() {
            return None;
        }
        self.steps.push(Step::Key(key));
        if let Some(why) = effects::without_effect(&self.pattern()) {
            self.warn(entry.key_at, format!("has no effect: {why}"), "");
        }
        let value = self.value(&entry.value, read);
        self.steps.pop();
        value
    }

    fn value<T>(
        &mut self,
        node: &Node,
        read: fn(&Node, &mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        self.values += 1;
        if self.values == VALUES_MAX {
            return self.refuse(node, "aliases make this file too large", "use fewer of them");
        }
        if self.values > VALUES_MAX {
            return None;
        }
        read(node, self)
    }

    /// The name of the map entry being read: the agent within `agents`.
    pub(crate) fn entry_name(&self) -> Option<String> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Entry(name) => Some(name.clone()),
            Step::Key(_) | Step::Item(_) => None,
        })
    }

    /// A scalar's text and whether it is plain.
    pub(crate) fn scalar<'n>(&mut self, node: &'n Node, expected: &str) -> Option<(&'n str, bool)> {
        match &node.kind {
            Kind::Scalar { text, plain } => Some((text, *plain)),
            Kind::List(_) | Kind::Map(_) => {
                let found = node.describe();
                self.refuse(node, format!("expected {expected}, found {found}"), "write one value")
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T>(
        &mut self,
        node: &Node,
        words: &[&'static str],
        parse: fn(&str) -> Option<T>,
    ) -> Option<T> {
        let (text, _) = self.scalar(node, "a word")?;
        if let Some(value) = parse(text) {
            return Some(value);
        }
        let remedy = match nearest(text, words) {
            Some(near) => format!("write {near}"),
            None => format!("write {}", words.first().copied().unwrap_or("nothing")),
        };
        let message = format!("expected one of {}, found {}", words.join(", "), node.describe());
        self.refuse(node, message, &remedy)
    }

    /// A whole number in a range.
    pub(crate) fn whole(&mut self, node: &Node, min: i128, max: i128) -> Option<i128> {
        let (text, plain) = self.scalar(node, "a whole number")?;
        let number = if plain { whole_number(text) } else { None };
        match number {
            Some(n) if (min..=max).contains(&n) => Some(n),
            Some(n) => {
                let message = format!("expected a whole number from {min} to {max}, found {n}");
                self.refuse(node, message, &format!("write e.g. {}", 2.clamp(min, max)))
            }
            None => {
                let found = node.describe();
                let remedy = match whole_number(text) {
                    Some(n) => format!("write {n} without quotes"),
                    None => format!("write e.g. {}", 2.clamp(min, max)),
                };
                self.refuse(node, format!("expected a whole number, found {found}"), &remedy)
            }
        }
    }

    /// Makes a path absolute. Relative ones start at the folder of the file; one that exists only where the
    /// process stands (the rule of the Go version) is taken from there, with a warning.
    pub(crate) fn resolve(&mut self, text: &str, at: Option<Position>) -> PathBuf {
        let path = match (text.strip_prefix('~'), &self.env.home) {
            (Some(rest), Some(home)) if rest.is_empty() => home.clone(),
            (Some(rest), Some(home)) if rest.starts_with('/') => home.join(&rest[1..]),
            _ => PathBuf::from(text),
        };
        if path.is_absolute() {
            return tidy(&path);
        }
        let here = tidy(&self.base.join(&path));
        let there = tidy(&self.env.cwd.join(&path));
        if here != there && !(self.env.exists)(&here) && (self.env.exists)(&there) {
            let message = format!(
                "{} exists only in the current folder, not beside this file; using that one",
                path.display()
            );
            if let Some(at) = at {
                self.warn(at, message, &format!("write {}", there.display()));
            }
            return there;
        }
        here
    }
}

/// Drops `.` steps; `..` stays, because it may follow a link.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|c| !matches!(c, std::path::Component::CurDir)).collect()
}

/// The known word closest to what was written, if it is close at all.
pub(crate) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    nearest_of(word, known.iter().copied())
}

/// [`nearest`] among any words.
pub(crate) fn nearest_of<'k>(
    word: &str,
    known: impl Iterator<Item = &'k str>,
) -> Option<&'k str> {
    // Nobody mistypes a name into something this long, and the distance is quadratic.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    let distance = |candidate: &str| {
        if word.len() > 3 && candidate.starts_with(&word) {
            return 1;
        }
        strsim::damerau_levenshtein(&word, &candidate.to_lowercase())
    };
    let (distance, candidate) = known.map(|k| (distance(k), k)).min()?;
    (distance <= (candidate.len() / 3).max(1)).then_some(candidate)
}

pub(crate) fn whole_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.replace('_', "");
    let number = if let Some(hex) = digits.strip_prefix("0x") {
        i128::from_str_radix(hex, 16).ok()?
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i128::from_str_radix(octal, 8).ok()?
    } else if digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()?
    } else {
        return None;
    };
    Some(if negative { -number } else { number })
}

macro_rules! whole_numbers {
    ($($type:ty),+) => { $(
        impl Field for $type {
            fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
                let n = cx.whole(node, <$type>::MIN as i128, <$type>::MAX as i128)?;
                <$type>::try_from(n).ok()
            }

            fn flatten(&self, path: &str, flat: &mut Flat) {
                flat.leaf(path, self.to_string());
            }
        }
    )+ };
}
whole_numbers!(u16, u32, u64, usize, i32, i64);

impl Field for f64 {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let (text, plain) = cx.scalar(node, "a number")?;
        match text.parse::<Self>() {
            Ok(n) if plain && n.is_finite() => Some(n),
            _ => {
                let found = node.describe();
                cx.refuse(node, format!("expected a number, found {found}"), "write e.g. 0.5")
            }
        }
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        flat.leaf(path, self.to_string());
    }
}

impl Field for bool {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let (text, plain) = cx.scalar(node, "true or false")?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" if plain => Some(true),
            "false" | "no" | "off" if plain => Some(false),
            _ => {
                let found = node.describe();
                cx.refuse(node, format!("expected true or false, found {found}"), "write true or false without quotes")
            }
        }
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        flat.leaf(path, self.to_string());
    }
}

impl Field for String {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.scalar(node, "a text").map(|(text, _)| text.to_owned())
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        flat.leaf(path, self.as_str());
    }

    fn label(&self) -> Option<&str> {
        Some(self)
    }
}

impl Field for Secret {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.scalar(node, "a text").map(|(text, _)| Self::new(text.to_owned()))
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        flat.secret(path, self.expose());
    }
}

impl Field for PathBuf {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let (text, _) = cx.scalar(node, "a path")?;
        if text.contains('\0') {
            return cx.refuse(node, "a path can't hold a NUL character", "remove it");
        }
        (!text.is_empty()).then(|| cx.resolve(text, Some(node.at)))
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        flat.leaf(path, self.display().to_string());
    }
}

impl Field for Period {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let (text, _) = cx.scalar(node, "a span of time")?;
        if let Some(period) = Self::parse(text) {
            return Some(period);
        }
        // The Go version refused a bare number only when it was used, so files have it.
        if let Some(seconds) = whole_number(text).and_then(|n| u64::try_from(n).ok()) {
            cx.warn(node.at, format!("a span of time has a unit; read as {seconds} seconds"), &format!("write {seconds}s"));
            return Some(Self::from_secs(seconds));
        }
        let found = node.describe();
        cx.refuse(node, format!("expected a span of time, found {found}"), "write e.g. 5m or 1h30m")
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        flat.leaf(path, self.to_string());
    }
}

impl Field for Mode {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        cx.word(node, &["observe", "enforce"], |word| match word {
            "observe" => Some(Self::Observe),
            "enforce" => Some(Self::Enforce),
            _ => None,
        })
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        flat.leaf(path, self.as_str());
    }
}

impl<T: Field> Field for Option<T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        T::read(node, cx).map(Some)
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        if let Some(value) = self {
            value.flatten(path, flat);
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            let found = node.describe();
            let remedy = match &node.kind {
                Kind::Scalar { text, .. } => format!("write [{text}]"),
                Kind::List(_) | Kind::Map(_) => String::from("begin each entry with a dash"),
            };
            return cx.refuse(node, format!("expected a list, found {found}"), &remedy);
        };
        let mut list = Self::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            cx.steps.push(Step::Item(index));
            cx.entry_id.clear();
            if item.is_null() {
                let _: Option<()> = cx.refuse(item, "an empty entry", "remove it or write a value");
            } else if let Some(value) = cx.value(item, T::read) {
                list.push(value);
            }
            cx.steps.pop();
        }
        Some(list)
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (index, value) in self.iter().enumerate() {
            let name = value.label().map_or_else(|| index.to_string(), str::to_owned);
            let again = seen.entry(name.clone()).or_default();
            let suffix = if *again == 0 { String::new() } else { format!("#{again}") };
            *again += 1;
            value.flatten(&format!("{path}[{name}{suffix}]"), flat);
        }
        if self.is_empty() {
            flat.leaf(path, "[]");
        }
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let entries = cx.map(node)?;
        let mut map = Self::new();
        for entry in entries {
            cx.steps.push(Step::Entry(entry.key.clone()));
            let value = if entry.value.is_null() {
                T::absent().or_else(|| cx.refuse(&entry.value, "has no value", "write one or remove the key"))
            } else {
                cx.value(&entry.value, T::read)
            };
            if let Some(value) = value {
                map.insert(entry.key.clone(), value);
            }
            cx.steps.pop();
        }
        Some(map)
    }

    fn flatten(&self, path: &str, flat: &mut Flat) {
        for (key, value) in self {
            value.flatten(&below(path, key), flat);
        }
    }
}
