//! `oktsec verify`: is this configuration right? Everything that is wrong, at once.

use super::{Global, secrets};
use crate::exit::{Exit, Failure, Outcome};
use crate::out;
use crate::place::{Place, WithRules};
use oktsec_contract::config::{self, Step};
use oktsec_contract::keys::{self, revocations};
use oktsec_proxy::DataplaneOptions;
use serde_json::json;

/// How strictly.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Count warnings (unknown keys, ignored keys, refused key and rule files) as findings: exit code 1
    #[arg(long)]
    strict: bool,
}

/// Files of `tls` sections with which the data plane could not start, where the section stands.
fn unusable_certificates(place: &Place) -> Vec<String> {
    let options = DataplaneOptions::from_config(&place.config, place.paths.clone());
    let text = std::fs::read_to_string(&place.config_path).unwrap_or_default();
    let file = place.config_path.display();
    let unusable = options.unusable_certificates().into_iter();
    unusable
        .map(|(key, why)| {
            let steps: Vec<Step> = key.split('.').map(Step::from).collect();
            let line = config::locate(&text, &steps).map_or(1, |at| at.line);
            format!("{file}:{line}: {key}: {why}; name PEM files that fit each other")
        })
        .collect()
}

/// Checks the configuration and what it names: keys, revocations, rules.
pub(crate) fn execute(global: &Global, args: Args) -> Outcome {
    let found = Place::find_with_rules(global.config.as_deref())?;
    let WithRules { place, rules, .. } = &found;
    let config = &place.config;
    let mut warnings = place.warnings.clone();
    let mut keys_found = 0;
    if let Some(dir) = &config.identity.keys_dir {
        let found = keys::load_dir(dir);
        keys_found = found.keys.len();
        warnings.extend(found.problems.iter().map(ToString::to_string));
        let revoked = revocations::load(dir).map_err(Failure::new)?;
        warnings.extend(revoked.torn.map(|torn| torn.to_string()));
    }
    warnings.extend(found.problems.iter().map(ToString::to_string));
    let unusable = unusable_certificates(place);
    if !unusable.is_empty() {
        let file = place.config_path.display();
        return Err(Failure::all(unusable).context(format_args!("{file} cannot be used:")));
    }
    let secrets = secrets::count(place)?;
    if global.json {
        out::json(&json!({
            "valid": true,
            "path": place.config_path,
            "warnings": warnings,
            "agents": config.agents.len(),
            "keys": keys_found,
            "rules": rules.rules.len(),
            "known_secrets": secrets.unwrap_or(0),
        }))?;
    } else {
        for warning in &warnings {
            out::note(format_args!("warning: {warning}"));
        }
        let keys_dir = config.identity.keys_dir.as_ref();
        let keys_dir =
            keys_dir.map_or_else(|| String::from("none"), |dir| dir.display().to_string());
        out::line(format_args!(
            "Config {} is valid",
            place.config_path.display()
        ))?;
        out::line(format_args!("  Port:              {}", config.server.port))?;
        out::line(format_args!(
            "  Mode:              {}",
            config.mode.as_str()
        ))?;
        out::line(format_args!(
            "  Require signature: {}",
            config.identity.require_signature
        ))?;
        out::line(format_args!(
            "  Keys dir:          {keys_dir} ({keys_found} keys)"
        ))?;
        out::line(format_args!("  Agents:            {}", config.agents.len()))?;
        out::line(format_args!(
            "  Rules:             {} in force, {} overrides",
            rules.rules.len(),
            config.rules.len()
        ))?;
        if let Some(secrets) = secrets {
            out::line(format_args!("  Known secrets:     {secrets}"))?;
        }
        out::line(format_args!(
            "  Webhooks:          {}",
            config.webhooks.len()
        ))?;
    }
    Ok(if args.strict && !warnings.is_empty() {
        Exit::Findings
    } else {
        Exit::Done
    })
}
