//! `oktsec tokens create|list|revoke`: how a client that cannot sign proves which principal it is (compat §2.7).
//!
//! The configuration keeps a salted hash. The token itself is shown once, to whoever made it.

use super::Global;
use crate::duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::local;
use crate::out;
use crate::place::Place;
use crate::table::Table;
use oktsec_contract::clock::Timestamp;
use oktsec_contract::config::{Principal, PrincipalContext, PrincipalToken, Secret};
use oktsec_contract::keys;
use oktsec_contract::token::{self, TokenKind, TokenState};
use oktsec_controlplane::edit::{self, Locked};
use serde_json::json;

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a token for a principal and show it once
    Create(Create),
    /// List tokens: whose they are and whether they count, never the tokens themselves
    List(List),
    /// Revoke a token
    Revoke(Revoke),
}

/// Whose, for what, for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The principal: the agent that whoever shows the token is taken for
    #[arg(long, value_name = "NAME")]
    principal: String,
    /// What it opens: gateway_bearer, proxy_basic (the egress proxy) or hook_bearer
    #[arg(long = "type", default_value = "gateway_bearer", value_parser = parse_kind, value_name = "TYPE")]
    kind: TokenKind,
    /// Name of the token, to revoke it by [default: made up]
    #[arg(long, value_name = "ID")]
    token_id: Option<String>,
    /// Until when it counts: 30d, 12h, or 2030-01-01T00:00:00Z [default: until it is revoked]
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
}

/// Whose.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only of this principal
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// Name of the token
    #[arg(long, value_name = "ID")]
    token_id: String,
    /// Its principal, where several have a token of this name
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
}

fn parse_kind(word: &str) -> Result<TokenKind, String> {
    TokenKind::parse(word).ok_or_else(|| {
        let known = TokenKind::ALL.map(TokenKind::as_str);
        format!("one of: {}", known.join(", "))
    })
}

/// Makes, lists or revokes.
pub(crate) fn execute(global: &Global, command: Command) -> Outcome {
    let place = Place::find(global.config.as_deref())?;
    match command {
        Command::Create(args) => create(global, &place, &args),
        Command::List(args) => list(global, &place, &args),
        Command::Revoke(args) => revoke(global, &place, &args),
    }
}

fn create(global: &Global, place: &Place, args: &Create) -> Outcome {
    keys::check_agent_name(&args.principal)
        .map_err(|problem| Failure::new(format_args!("{:?}: {problem}", args.principal)))?;
    let now = Timestamp::now();
    let expires_at = expiry(args.expires.as_deref(), now)?;
    let (raw, hash) = token::generate(args.kind)
        .map_err(|error| Failure::new(format_args!("no random numbers: {error}")))?;
    let mut locked = edit::open(&place.config_path).map_err(Failure::new)?;
    let mut principals = locked.config.identity.principals.clone();
    let id = match &args.token_id {
        Some(id) => id.clone(),
        // The last digits of the salted hash: as good a name as any, and nothing of the token.
        None => format!("{}-{}", args.kind.as_str(), &hash[hash.len() - 8..]),
    };
    keys::check_agent_name(&id)
        .map_err(|problem| Failure::new(format_args!("--token-id {id:?}: {problem}")))?;
    let tokens = &mut principal(&mut principals, &args.principal).tokens;
    if tokens.iter().any(|token| token.id == id) {
        return Err(Failure::new(format_args!(
            "{} already has a token {id:?}; choose another --token-id, or revoke that one",
            args.principal
        )));
    }
    tokens.push(PrincipalToken {
        id: id.clone(),
        kind: args.kind.as_str().to_owned(),
        hash: Secret::new(hash),
        created_at: now.to_rfc3339(),
        expires_at: expires_at.clone(),
        ..PrincipalToken::default()
    });
    let is_agent = locked.config.agents.contains_key(&args.principal);
    write(&mut locked, &principals)?;
    drop(locked);
    let in_force = local::put_in_force(&place.paths);
    if global.json {
        out::json(&json!({
            "principal": args.principal,
            "token_id": id,
            "type": args.kind.as_str(),
            "token": raw,
            "expires_at": expires_at,
            "in_force": in_force.to_json(),
        }))?;
        return Ok(Exit::Done);
    }
    out::line(&raw)?;
    out::note(format_args!(
        "Token {id} of {}. It is shown this once; the configuration keeps a hash.",
        args.principal
    ));
    if !is_agent {
        out::note(format_args!(
            "No agent is called {:?}: what is configured for agents does not apply to it.",
            args.principal
        ));
    }
    if args.kind != TokenKind::ProxyBasic {
        out::note(format_args!(
            "Nothing of this version takes a {}; the forward proxy takes those made with --type proxy_basic.",
            args.kind.as_str()
        ));
    }
    in_force.tell();
    Ok(Exit::Done)
}

/// Until when a token counts, as the configuration writes it; empty without an end.
fn expiry(given: Option<&str>, now: Timestamp) -> Result<String, Failure> {
    let Some(text) = given else {
        return Ok(String::new());
    };
    let end = duration::point_ahead(text, now)
        .map_err(|why| Failure::new(format_args!("--expires: {why}")))?;
    let written = end.to_rfc3339();
    if Timestamp::parse_rfc3339(&written).is_none_or(|end| end <= now) {
        return Err(Failure::new(format_args!(
            "--expires: {written} has passed already; the token would never count"
        )));
    }
    Ok(written)
}

/// The principal of this name, made if there is none.
fn principal<'a>(principals: &'a mut Vec<Principal>, name: &str) -> &'a mut Principal {
    let at = principals.iter().position(|known| known.id == name);
    let at = at.unwrap_or_else(|| {
        principals.push(Principal {
            id: name.to_owned(),
            ..Principal::default()
        });
        principals.len() - 1
    });
    &mut principals[at]
}

fn list(global: &Global, place: &Place, args: &List) -> Outcome {
    let now = Timestamp::now();
    let principals = &place.config.identity.principals;
    let wanted = |principal: &&Principal| {
        args.principal
            .as_ref()
            .is_none_or(|name| principal.id == *name)
    };
    let all = principals
        .iter()
        .filter(wanted)
        .flat_map(|principal| principal.tokens.iter().map(move |token| (principal, token)));
    if global.json {
        let tokens: Vec<_> = all
            .map(|(principal, token)| {
                json!({
                    "principal": principal.id,
                    "token_id": token.id,
                    "type": token.kind,
                    "status": token::state(token, now).as_str(),
                    "created_at": token.created_at,
                    "expires_at": token.expires_at,
                    "revoked_at": token.revoked_at,
                })
            })
            .collect();
        out::json(&tokens.into())?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["PRINCIPAL", "TOKEN", "TYPE", "STATUS", "CREATED", "EXPIRES"]);
    for (principal, token) in all {
        table.row([
            &principal.id,
            &token.id,
            &token.kind,
            token::state(token, now).as_str(),
            or_dash(&token.created_at),
            or_dash(&token.expires_at),
        ]);
    }
    table.print()?;
    Ok(Exit::Done)
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn revoke(global: &Global, place: &Place, args: &Revoke) -> Outcome {
    let now = Timestamp::now();
    let mut locked = edit::open(&place.config_path).map_err(Failure::new)?;
    let mut principals = locked.config.identity.principals.clone();
    let mut found: Vec<(String, &mut PrincipalToken)> = principals
        .iter_mut()
        .filter(|p| args.principal.as_ref().is_none_or(|name| p.id == *name))
        .flat_map(|p| {
            let id = p.id.clone();
            p.tokens.iter_mut().map(move |token| (id.clone(), token))
        })
        .filter(|(_, token)| token.id == args.token_id)
        .collect();
    let [(principal, token)] = &mut found[..] else {
        return Err(Failure::new(if found.is_empty() {
            format!(
                "no token {:?}; `oktsec tokens list` shows them",
                args.token_id
            )
        } else {
            let owners: Vec<_> = found.into_iter().map(|(owner, _)| owner).collect();
            format!(
                "{} have a token {:?}; say whose with --principal",
                owners.join(", "),
                args.token_id
            )
        }));
    };
    let principal = principal.clone();
    let changed = token::state(token, now) != TokenState::Revoked;
    if changed {
        token.revoked_at = now.to_rfc3339();
        write(&mut locked, &principals)?;
    }
    drop(locked);
    let in_force = local::put_in_force(&place.paths);
    if global.json {
        out::json(&json!({
            "principal": principal,
            "token_id": args.token_id,
            "changed": changed,
            "in_force": in_force.to_json(),
        }))?;
    } else {
        let already = if changed { "" } else { " already" };
        out::line(format_args!(
            "Token {} of {principal} is{already} revoked.",
            args.token_id
        ))?;
        in_force.tell();
    }
    Ok(Exit::Done)
}

fn write(locked: &mut Locked, principals: &[Principal]) -> Result<(), Failure> {
    let mut value = serde_json::to_value(principals)
        .map_err(|error| Failure::new(format_args!("principals cannot be written: {error}")))?;
    // A section that says nothing but its defaults need not stand there.
    for (principal, value) in principals
        .iter()
        .zip(value.as_array_mut().into_iter().flatten())
    {
        if principal.context == PrincipalContext::default()
            && let Some(value) = value.as_object_mut()
        {
            value.remove("context");
        }
    }
    locked
        .editor
        .set(&["identity", "principals"], Some(&value))
        .map_err(Failure::new)?;
    locked.editor.save().map_err(Failure::new)
}
