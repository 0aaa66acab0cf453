//! Integrations: named sets of host patterns, so nobody looks up the hosts of a service twice (compat §7.2).

use crate::config::nearest_of;

/// A named set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name in `integrations`.
    pub name: &'static str,
    /// What it covers.
    pub hosts: &'static [&'static str],
}

/// Every set, by name.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "anthropic",
        hosts: &["api.anthropic.com"],
    },
    Preset {
        name: "discord",
        hosts: &["discord.com", "discordapp.com", "cdn.discordapp.com"],
    },
    Preset {
        name: "docker",
        hosts: &["registry-1.docker.io", "auth.docker.io", "hub.docker.com"],
    },
    Preset {
        name: "firebase",
        hosts: &["*.firebaseio.com", "*.googleapis.com", "*.firebaseapp.com"],
    },
    Preset {
        name: "github",
        hosts: &["github.com", "api.github.com", "raw.githubusercontent.com"],
    },
    Preset {
        name: "huggingface",
        hosts: &["huggingface.co", "*.hf.co"],
    },
    Preset {
        name: "jira",
        hosts: &["*.atlassian.net", "*.jira.com"],
    },
    Preset {
        name: "linear",
        hosts: &["api.linear.app", "linear.app"],
    },
    Preset {
        name: "notion",
        hosts: &["api.notion.com"],
    },
    Preset {
        name: "npm",
        hosts: &["registry.npmjs.org"],
    },
    Preset {
        name: "openai",
        hosts: &["api.openai.com"],
    },
    Preset {
        name: "pypi",
        hosts: &["pypi.org", "files.pythonhosted.org"],
    },
    Preset {
        name: "slack",
        hosts: &[
            "slack.com",
            "api.slack.com",
            "hooks.slack.com",
            "files.slack.com",
        ],
    },
    Preset {
        name: "stripe",
        hosts: &["api.stripe.com", "hooks.stripe.com"],
    },
    Preset {
        name: "supabase",
        hosts: &["*.supabase.co", "*.supabase.in"],
    },
    Preset {
        name: "telegram",
        hosts: &["api.telegram.org"],
    },
];

/// The set of this name; case does not count.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS
        .iter()
        .find(|preset| preset.name.eq_ignore_ascii_case(name))
}

/// The known name closest to one that is none.
pub fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, PRESETS.iter().map(|preset| preset.name))
}
