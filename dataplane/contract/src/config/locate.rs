//! Where a key stands in a file, for whoever wants to tell an operator which line to change.

use super::yaml::{self, Kind, Node, Position};

/// A step towards a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a map.
    Key(String),
    /// An entry of a list, from 0.
    Item(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

/// A line of a file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The line of the deepest part of the key that is there.
    pub line: u32,
    /// Whether the whole key is there; otherwise something has to be added below that line.
    pub whole: bool,
}

/// Finds the line of a key: `["agents", "a", "can_message"]`. `None` if not even its first part is there, or the
/// text is no YAML.
pub fn locate(text: &str, path: &[Step]) -> Option<Located> {
    let root = yaml::parse(text).ok()?.root?;
    let mut node: &Node = &root;
    let mut found: Option<Position> = None;
    for step in path {
        let next = match (step, &node.kind) {
            (Step::Key(key), _) => node.entry(key).map(|e| (e.key_at, &*e.value)),
            (Step::Item(at), Kind::List(items)) => items.get(*at).map(|item| (item.at, &**item)),
            (Step::Item(_), Kind::Map(_) | Kind::Scalar { .. }) => None,
        };
        let Some((at, value)) = next else {
            return found.map(|at| Located {
                line: at.line,
                whole: false,
            });
        };
        found = Some(at);
        node = value;
    }
    found.map(|at| Located {
        line: at.line,
        whole: true,
    })
}

#[cfg(test)]
mod tests {
    use super::{Located, Step, locate};

    const FILE: &str = "# ours\nagents:\n  a.b:\n    can_message: [c]\nrules:\n  - {id: X}\n  - id: Y\n    action: block\n";

    #[test]
    fn the_line_is_that_of_the_key_or_of_what_is_there_of_it() {
        let at = |line, whole| Some(Located { line, whole });
        let key = |path: &[&str]| {
            let steps: Vec<Step> = path.iter().map(|&key| key.into()).collect();
            locate(FILE, &steps)
        };
        assert_eq!(key(&["agents", "a.b", "can_message"]), at(4, true));
        assert_eq!(key(&["agents", "a.b", "suspended"]), at(3, false));
        assert_eq!(key(&["agents", "nobody", "suspended"]), at(2, false));
        assert_eq!(key(&["default_policy"]), None);
        let action = |item| [Step::from("rules"), Step::Item(item), Step::from("action")];
        assert_eq!(locate(FILE, &action(1)), at(8, true));
        assert_eq!(locate(FILE, &action(0)), at(6, false));
        assert_eq!(locate(FILE, &action(7)), at(5, false));
        assert_eq!(locate("a: [", &["a".into()]), None);
    }
}
