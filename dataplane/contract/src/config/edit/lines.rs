//! Edits lines of a text in place. It may give up, and it may even be wrong about odd texts: its caller compares
//! what the result means with what was intended, and writes the file anew if they differ.

use super::doc::Doc;
use crate::config::yaml::{Entry, Kind, Node, Position};

/// The text with one value set or removed; `None` if its form is too free for editing by lines.
pub(super) fn set(text: &str, root: &Node, path: &[&str], value: Option<&Doc>) -> Option<String> {
    let mut editor = Lines {
        lines: text.split_inclusive('\n').map(str::to_owned).collect(),
        newline: if text.contains("\r\n") { "\r\n" } else { "\n" },
    };
    editor.set(root, path, value)?;
    Some(editor.lines.concat())
}

struct Lines {
    lines: Vec<String>,
    newline: &'static str,
}

/// Where a map stands: its entries, and the line behind its last one.
struct Place<'n> {
    node: &'n Node,
    /// Lines before this one may belong to it.
    end: usize,
    /// Column of the key that holds it, from 0; `None` at the top.
    key_indent: Option<usize>,
    /// Line behind its key, from 0.
    below_key: usize,
}

impl Lines {
    fn set(&mut self, root: &Node, path: &[&str], value: Option<&Doc>) -> Option<()> {
        let (key, parents) = path.split_last()?;
        let mut place = Place {
            node: root,
            end: self.lines.len(),
            key_indent: None,
            below_key: 0,
        };
        for (depth, parent) in parents.iter().enumerate() {
            if !is_block_map(place.node) {
                return self.set_whole(root, &parents[..depth], path, value);
            }
            let Some((entry, end)) = find(place.node, parent, place.end) else {
                // Nothing there yet: add all that is missing at once.
                let rest = &path[depth + 1..];
                let nested = rest.iter().rev().fold(value?.clone(), |inner, key| {
                    Doc::Map(vec![((*key).to_owned(), inner)])
                });
                return self.insert(&place, parent, &nested);
            };
            if entry.merged {
                return None;
            }
            place = Place {
                node: &entry.value,
                end,
                key_indent: Some(column(entry.key_at)),
                below_key: line(entry.key_at) + 1,
            };
        }
        if !is_block_map(place.node) && !place.node.is_null() {
            return self.set_whole(root, parents, path, value);
        }
        match (find(place.node, key, place.end), value) {
            (Some((entry, end)), Some(value)) => self.replace(entry, end, value),
            (Some((entry, end)), None) => {
                if own_entries(place.node).count() == 1 {
                    return self.set(root, parents, Some(&Doc::Map(Vec::new())));
                }
                let (start, end) = self.range(entry, end)?;
                self.lines.drain(start..end);
                Some(())
            }
            (None, Some(value)) => self.insert(&place, key, value),
            (None, None) => Some(()),
        }
    }

    /// For maps in braces: replaces the whole map by one with the change in it.
    fn set_whole(
        &mut self,
        root: &Node,
        flow: &[&str],
        path: &[&str],
        value: Option<&Doc>,
    ) -> Option<()> {
        let mut node = root;
        for key in flow {
            node = &node.entry(key)?.value;
        }
        let mut whole = Doc::of(node)?;
        whole.set(&path[flow.len()..], value.cloned())?;
        self.set(root, flow, Some(&whole))
    }

    /// The lines of an entry, without the comments and blank lines behind it.
    fn range(&self, entry: &Entry, end: usize) -> Option<(usize, usize)> {
        let start = line(entry.key_at);
        let before: String = self
            .lines
            .get(start)?
            .chars()
            .take(column(entry.key_at))
            .collect();
        if entry.merged || !before.chars().all(|c| c == ' ') {
            return None;
        }
        let mut end = end.min(self.lines.len());
        while end > start + 1 && is_blank_or_comment(&self.lines[end - 1]) {
            end -= 1;
        }
        Some((start, end))
    }

    fn replace(&mut self, entry: &Entry, end: usize, value: &Doc) -> Option<()> {
        let (start, end) = self.range(entry, end)?;
        if let Some(line) = self.with_scalar(entry, value) {
            self.lines[start] = line;
            return Some(());
        }
        let new = self.entry(&entry.key, column(entry.key_at), value);
        self.lines.splice(start..end, new);
        Some(())
    }

    /// The line of a scalar with another scalar in its place, so that a comment behind it stays.
    fn with_scalar(&self, entry: &Entry, value: &Doc) -> Option<String> {
        let old = &entry.value;
        let small = matches!(value, Doc::Plain(_) | Doc::Text(_));
        let same_line = old.at.line == entry.key_at.line && old.end.line == old.at.line;
        if !small || !same_line || old.end.column <= old.at.column {
            return None;
        }
        let text = self.lines.get(line(entry.key_at))?;
        let before: String = text.chars().take(column(old.at)).collect();
        let after: String = text.chars().skip(column(old.end)).collect();
        Some(format!("{before}{}{after}", value.inline()))
    }

    fn insert(&mut self, place: &Place<'_>, key: &str, value: &Doc) -> Option<()> {
        let last = own_entries(place.node).last();
        let (at, indent) = match last {
            Some(last) => {
                let (_, end) = self.range(last, place.end)?;
                (end, column(last.key_at))
            }
            None if place.node.is_null() => {
                (place.below_key, place.key_indent.map_or(0, |i| i + 2))
            }
            None => return None,
        };
        if at > 0 && !self.lines[at - 1].ends_with('\n') {
            let newline = self.newline;
            self.lines[at - 1].push_str(newline);
        }
        let new = self.entry(key, indent, value);
        self.lines.splice(at..at, new);
        Some(())
    }

    fn entry(&self, key: &str, indent: usize, value: &Doc) -> Vec<String> {
        let mut text = String::new();
        value.write_entry(key, indent, &mut text);
        text.lines()
            .map(|line| format!("{line}{}", self.newline))
            .collect()
    }
}

/// An entry and the line behind the last one that may belong to it.
fn find<'n>(map: &'n Node, key: &str, end: usize) -> Option<(&'n Entry, usize)> {
    let Kind::Map(entries) = &map.kind else {
        return None;
    };
    let at = entries.iter().position(|e| e.key == key)?;
    let next = entries[at + 1..].iter().find(|e| !e.merged);
    Some((&entries[at], next.map_or(end, |next| line(next.key_at))))
}

fn own_entries(map: &Node) -> impl Iterator<Item = &Entry> {
    let entries: &[Entry] = match &map.kind {
        Kind::Map(entries) => entries,
        Kind::List(_) | Kind::Scalar { .. } => &[],
    };
    entries.iter().filter(|e| !e.merged)
}

fn is_block_map(node: &Node) -> bool {
    matches!(node.kind, Kind::Map(_)) && !node.flow
}

fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn line(at: Position) -> usize {
    at.line.saturating_sub(1) as usize
}

fn column(at: Position) -> usize {
    at.column.saturating_sub(1) as usize
}
