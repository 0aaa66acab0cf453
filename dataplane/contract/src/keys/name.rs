//! Names that an agent, and therefore a key file, may have (compat §2.1).

use crate::limits::AGENT_NAME_BYTES_MAX;

/// Why a text is no name of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Nothing at all.
    #[error("a name can't be empty")]
    Empty,
    /// Longer than any name.
    #[error("a name has at most {AGENT_NAME_BYTES_MAX} characters")]
    TooLong,
    /// Begins with an underscore: ours.
    #[error("names that begin with _ are reserved")]
    Reserved,
    /// Begins with a dot or a dash.
    #[error("a name begins with a letter or a digit")]
    Start,
    /// Holds anything else.
    #[error("a name holds only letters, digits, '.', '_' and '-', not {0:?}")]
    Character(char),
    /// Would name a device on Windows.
    #[error("{0} is the name of a device on Windows")]
    Device(&'static str),
}

const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// Checks a name: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}` that is no Windows device.
///
/// # Errors
/// What is wrong with it.
pub fn check_agent_name(name: &str) -> Result<(), NameProblem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(c) = name.chars().find(|&c| !allowed(c)) {
        return Err(NameProblem::Character(c));
    }
    match name.chars().next() {
        None => return Err(NameProblem::Empty),
        Some('_') => return Err(NameProblem::Reserved),
        Some('.' | '-') => return Err(NameProblem::Start),
        Some(_) => {}
    }
    if name.len() > AGENT_NAME_BYTES_MAX {
        return Err(NameProblem::TooLong);
    }
    let stem = name.split('.').next().unwrap_or_default();
    match DEVICES
        .into_iter()
        .find(|device| stem.eq_ignore_ascii_case(device))
    {
        Some(device) => Err(NameProblem::Device(device)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{NameProblem, check_agent_name};

    #[test]
    fn names_are_those_of_the_go_version() {
        for good in [
            "a",
            "A1",
            "research-agent",
            "a.b_c-d",
            "9",
            "console",
            "com10",
            &"x".repeat(128),
        ] {
            assert_eq!(check_agent_name(good), Ok(()), "{good}");
        }
        for (bad, problem) in [
            ("", NameProblem::Empty),
            ("_proxy", NameProblem::Reserved),
            (".hidden", NameProblem::Start),
            ("-rf", NameProblem::Start),
            ("a b", NameProblem::Character(' ')),
            ("../a", NameProblem::Character('/')),
            ("a\n", NameProblem::Character('\n')),
            ("é", NameProblem::Character('é')),
            ("NUL.txt", NameProblem::Device("nul")),
            ("Com1", NameProblem::Device("com1")),
        ] {
            assert_eq!(check_agent_name(bad), Err(problem), "{bad}");
        }
        assert_eq!(
            check_agent_name(&"x".repeat(129)),
            Err(NameProblem::TooLong)
        );
    }
}
