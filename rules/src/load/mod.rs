//! Reads rule files: our format, the exact format of the Go version, its `rules:` list, and
//! files its generators wrote. One bad rule never drops another one, one bad file never another
//! file: what is wrong comes back as a list of [`RuleProblem`]s.

mod document;
mod pattern;
mod rule;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{ProblemSeverity, Rule, RuleProblem};

/// Largest rule file read.
pub const RULE_FILE_BYTES_MAX: u64 = 4 << 20;

/// Deepest directory read below the one given.
const DIRECTORY_DEPTH_MAX: usize = 16;

/// Most rule files read from one directory tree.
const FILES_MAX: usize = 10_000;

/// What a file or a directory held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadedRules {
    /// The rules that are fit to use, in file order.
    pub rules: Vec<Rule>,
    /// What was refused or had no effect.
    pub problems: Vec<RuleProblem>,
}

/// Reads every `.yaml` and `.yml` below `directory`, in order of path. Symbolic links and files
/// above [`RULE_FILE_BYTES_MAX`] are refused.
pub fn load_dir(directory: &Path) -> LoadedRules {
    let mut loaded = LoadedRules::default();
    let mut files = Vec::new();
    collect(directory, 0, &mut files, &mut loaded.problems);
    files.sort();
    for path in &files {
        let name = path.display().to_string();
        match read(path) {
            Ok(text) => {
                let one = load_text(&name, &text);
                loaded.rules.extend(one.rules);
                loaded.problems.extend(one.problems);
            }
            Err(reason) => loaded.problems.push(refused(&name, reason)),
        }
    }
    refuse_repeated_ids(&mut loaded);
    loaded
}

/// Reads one file's text; `file` only names it in problems.
pub fn load_text(file: &str, text: &str) -> LoadedRules {
    let mut loaded = LoadedRules::default();
    for chunk in document::split(text) {
        document::load(file, &chunk, &mut loaded);
    }
    loaded
}

fn refuse_repeated_ids(loaded: &mut LoadedRules) {
    let mut seen = std::collections::HashSet::new();
    let problems = &mut loaded.problems;
    loaded.rules.retain(|rule| {
        let new = seen.insert(rule.id.clone()) || rule.overrides;
        if !new {
            problems.push(RuleProblem {
                rule: Some(rule.id.clone()),
                ..refused("rules", "another file already defines this id".to_owned())
            });
        }
        new
    });
}

fn refused(file: &str, reason: String) -> RuleProblem {
    RuleProblem {
        file: file.to_owned(),
        line: None,
        rule: None,
        reason,
        severity: ProblemSeverity::Error,
    }
}

fn collect(dir: &Path, depth: usize, files: &mut Vec<PathBuf>, problems: &mut Vec<RuleProblem>) {
    let name = dir.display().to_string();
    if depth > DIRECTORY_DEPTH_MAX {
        problems.push(refused(
            &name,
            format!("more than {DIRECTORY_DEPTH_MAX} directories deep"),
        ));
        return;
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            problems.push(refused(&name, format!("cannot be listed: {error}")));
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let is_rule_file = path.extension().is_some_and(|extension| {
            extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml")
        });
        if kind.is_symlink() {
            let reason = "symbolic links are not followed; copy the file".to_owned();
            problems.push(refused(&path.display().to_string(), reason));
        } else if kind.is_dir() {
            collect(&path, depth + 1, files, problems);
        } else if is_rule_file && !kind.is_file() {
            // Opening a pipe waits for whoever writes to it.
            let reason = "is not a regular file".to_owned();
            problems.push(refused(&path.display().to_string(), reason));
        } else if is_rule_file && files.len() == FILES_MAX {
            problems.push(refused(&name, format!("more than {FILES_MAX} rule files")));
            return;
        } else if is_rule_file {
            files.push(path);
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(RULE_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > RULE_FILE_BYTES_MAX {
        return Err(format!("is larger than {RULE_FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}
