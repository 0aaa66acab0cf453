use super::{EditError, Editor};
use crate::config::{self, AclEntry, Agent, Constraint, Egress, yaml};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const FILE: &str = "\
# Ours.
version: \"1\"
identity:
  require_signature: false   # for now

agents:
  # The first.
  a:
    can_message: [b]   # only b
    suspended: false   # never yet
    source: claude     # not our key

  # The second.
  b:
    can_message:
      - a
    description: |
      # not a comment
      text

rules:
  - id: IAP-001
    action: block
# The end.
";

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("oktsec.yaml");
        std::fs::write(&path, text).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    fn edit(&self, change: impl FnOnce(&mut Editor) -> Result<(), EditError>) -> String {
        let mut editor = Editor::open(&self.path).unwrap();
        change(&mut editor).unwrap();
        editor.save().unwrap();
        std::fs::read_to_string(&self.path).unwrap()
    }

    fn config(&self) -> config::Config {
        config::load(&self.path).unwrap().config
    }
}

fn agent(recipients: &[&str]) -> Agent {
    Agent {
        can_message: Some(recipients.iter().map(|&r| r.to_owned()).collect()),
        ..Agent::default()
    }
}

/// Parsing is most of what a change to a large file takes.
#[test]
fn a_change_parses_the_file_and_what_it_becomes_once() {
    let file = File::new(FILE);
    let before = yaml::PARSED.get();
    let mut editor = Editor::open(&file.path).unwrap();
    let mut agent = editor.config().unwrap().agents["a"].clone();
    agent.suspended = true;
    editor.set_agent("a", &agent).unwrap();
    editor.save().unwrap();
    assert_eq!(yaml::PARSED.get() - before, 2);
    assert!(editor.config().unwrap().agents["a"].suspended);
}

#[test]
fn a_changed_value_changes_its_line_and_nothing_else() {
    let file = File::new(FILE);
    let text = file.edit(|e| e.set_suspended("a", true));
    assert_eq!(text, FILE.replace("suspended: false ", "suspended: true "));
    let backup = std::fs::read_to_string(file.path.with_extension("yaml.bak")).unwrap();
    assert_eq!(backup, FILE);
    assert_eq!(
        std::fs::metadata(&file.path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(file.config().agents["a"].suspended);
    let text = file.edit(|e| {
        e.set(&["identity", "require_signature"], Some(&true.into()))
            .and_then(|()| e.set(&["identity", "keys_dir"], Some(&"./keys".into())))
    });
    assert!(
        text.contains("  require_signature: true   # for now\n  keys_dir: ./keys\n\nagents:"),
        "{text}"
    );
}

#[test]
fn a_new_key_is_added_at_the_end_of_its_agent() {
    let file = File::new(FILE);
    let text = file.edit(|e| e.set_key_version("a", 2));
    assert_eq!(
        text,
        FILE.replace("# not our key\n", "# not our key\n    key_version: 2\n")
    );
    let text = file.edit(|e| e.set_key_version("b", 1));
    assert!(
        text.contains("      text\n    key_version: 1\n\nrules:"),
        "{text}"
    );
}

#[test]
fn an_agent_is_added_changed_and_removed_with_its_lines() {
    let file = File::new(FILE);
    let mut new = agent(&["a", "b c: #"]);
    new.acl_entries = Some(vec![AclEntry {
        target: String::from("*"),
        constraints: vec![Constraint {
            kind: String::from("rate"),
            max_messages: 5,
            ..Constraint::default()
        }],
    }]);
    new.egress = Some(Egress {
        scan_requests: Some(false),
        ..Egress::default()
    });
    new.description = String::from("yes");
    let text = file.edit(|e| e.set_agent("new", &new));
    assert!(
        text.contains("  new:\n") && text.contains("# The end."),
        "{text}"
    );
    assert_eq!(file.config().agents["new"], new);

    let text = file.edit(|e| e.set_agent("a", &agent(&[])));
    assert!(
        text.contains("    can_message: []\n    suspended: false   # never yet\n"),
        "{text}"
    );
    assert!(text.contains("source: claude     # not our key"));

    let text = file.edit(|e| e.remove_agent("new").and_then(|()| e.remove_agent("b")));
    assert!(
        !text.contains("b:") && text.contains("rules:\n") && text.contains("# The second."),
        "{text}"
    );
    let text = file.edit(|e| e.remove_agent("a"));
    assert!(text.contains("agents: {}\n"), "{text}");
    let text = file.edit(|e| e.set_agent("z", &agent(&["*"])));
    assert_eq!(
        file.config().agents.keys().collect::<Vec<_>>(),
        ["z"],
        "{text}"
    );
}

#[test]
fn files_of_every_form_can_be_edited() {
    for text in [
        "identity: {require_signature: false}\nagents: {a: {can_message: [b]}}\n",
        "{identity: {require_signature: false}, agents: {a: {}}}\n",
        "identity:\r\n  require_signature: false\r\nagents:\r\n  a:\r\n",
        "identity:\n  require_signature: false\nagents:\n  a:",
        "x-d: &d\n  can_message: [b]\nidentity: {require_signature: no}\nagents:\n  a: *d\n  c:\n    <<: *d\n",
        "\"identity\":\n    \"require_signature\": false\n\"agents\":\n    \"a\": {}\n",
        "identity:\n  require_signature: false\nagents:\n  ? a\n  : {}\n",
    ] {
        let file = File::new(text);
        let before = file.config();
        let written = file.edit(|e| {
            e.set_suspended("a", true)
                .and_then(|()| e.set_agent("n", &agent(&["a"])))
        });
        let mut expected = before.clone();
        expected.agents.get_mut("a").unwrap().suspended = true;
        expected.agents.insert(String::from("n"), agent(&["a"]));
        assert_eq!(file.config(), expected, "{text:?} became {written:?}");
        assert_eq!(
            text.contains("\r\n"),
            written.contains("\r\n"),
            "{written:?}"
        );
    }
}

#[test]
fn a_change_is_refused_when_the_file_would_not_load_or_somebody_was_faster() {
    let file = File::new(FILE);
    let mut editor = Editor::open(&file.path).unwrap();
    editor.set(&["server", "port"], Some(&0.into())).unwrap();
    assert!(matches!(editor.save(), Err(EditError::Invalid(_))));
    let mut editor = Editor::open(&file.path).unwrap();
    assert!(matches!(
        editor.set_suspended("nobody", true),
        Err(EditError::NoAgent(_))
    ));
    assert!(matches!(
        editor.set(&["version", "x"], Some(&1.into())),
        Err(EditError::NotEditable { .. })
    ));
    editor.set_suspended("a", true).unwrap();
    std::fs::write(&file.path, format!("{FILE}# mine\n")).unwrap();
    assert!(matches!(editor.save(), Err(EditError::ChangedMeanwhile(_))));
    for bad in ["a: 1\na: 2\n", "a: [\n", "a: 1\n---\nb: 2\n"] {
        assert!(
            matches!(
                Editor::open(&File::new(bad).path),
                Err(EditError::NotEditable { .. })
            ),
            "{bad}"
        );
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,6}",
        Just(String::from("null")),
        Just(String::from("1.10")),
        Just(String::from("a: b # c")),
        Just(String::from("tab\there\nline\r\u{85}\u{2028}\u{7}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_set_is_what_the_file_then_says(
        name in "[a-z][a-z0-9-]{0,5}",
        recipients in prop::option::of(prop::collection::vec("[a-z*]{1,6}", 0..3)),
        description in any_text(),
        tags in prop::collection::vec(any_text(), 0..3),
        suspended: bool,
        key_version: u32,
    ) {
        prop_assume!(crate::keys::check_agent_name(&name).is_ok());
        let agent = Agent {
            can_message: recipients.map(|r| r.into_iter().filter(|r| *r != name).collect()),
            description,
            tags,
            suspended,
            key_version,
            ..Agent::default()
        };
        let file = File::new(FILE);
        let others = file.config();
        file.edit(|e| e.set_agent(&name, &agent));
        let mut expected = others;
        expected.agents.insert(name.clone(), agent.clone());
        prop_assert_eq!(&file.config(), &expected);
        // Once more, over what is there now.
        let back = Agent { suspended: !suspended, tags: Vec::new(), ..agent };
        file.edit(|e| e.set_agent(&name, &back));
        expected.agents.insert(name, back);
        prop_assert_eq!(&file.config(), &expected);
    }
}
