//! `docs/configuration.md` names every key there is, and its example loads.

use super::field::Field as _;
use super::{Config, Env, parse};
use std::path::Path;

const DOCUMENT: &str = include_str!("../../../../docs/configuration.md");

/// The document's sections that are about a top-level key, and the lines elsewhere that name it.
fn about(root: &str) -> String {
    let mut text = String::new();
    for section in DOCUMENT.split("\n## ") {
        let heading = section.lines().next().unwrap_or_default();
        let is_about = names(heading, root);
        for line in section.lines().filter(|line| is_about || names(line, root)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Whether a key stands between back quotes, alone or as a part of a longer one.
fn names(text: &str, key: &str) -> bool {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .flat_map(|quoted| quoted.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .any(|word| word == key)
}

#[test]
fn every_key_is_documented() {
    let mut keys = Vec::new();
    Config::keys("", &mut keys);
    assert!(keys.len() > 200, "{}", keys.len());
    let missing: Vec<&String> = keys
        .iter()
        .filter(|key| {
            let mut words = key
                .split(['.', '[', ']'])
                .filter(|word| !matches!(*word, "" | "*"));
            let root = words.next().expect("a key has a name");
            let text = about(root);
            !names(&text, root) || !words.all(|word| names(&text, word))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "docs/configuration.md lacks {missing:#?}"
    );
}

#[test]
fn the_example_loads_without_a_word() {
    let example = DOCUMENT.rsplit("```yaml\n").next().expect("an example");
    let (example, _) = example.split_once("```").expect("it ends");
    let env = Env::of(Path::new("oktsec.yaml"));
    let loaded = parse(example, Path::new("oktsec.yaml"), &env).expect("it loads");
    assert_eq!(loaded.config.agents.len(), 2);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}
