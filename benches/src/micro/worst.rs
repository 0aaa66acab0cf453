//! The slowest text there is, as far as a search finds it: what an attacker would send.
//!
//! A text is a row of pieces, repeated to its length. Pieces come from what rules look for and from what asks for
//! views; a text that costs more time for each byte replaces the one before. The same seed searches the same way,
//! but what is measured decides, so two runs end with different texts.
//!
//! Or it is words of rules in any order, none of them twice: automata then go to a new state at nearly every byte.
//! Those are the same in every run.

use super::Context;
use crate::content::Random;
use oktsec_contract::Surface;
use oktsec_rules::RuleSet;
use oktsec_scanner::{Database, LimitsReached, Scanner};
use regex::Regex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Bytes of a text.
const TEXT_BYTES: usize = 16 << 10;

/// Pieces of a text.
const PIECES_MAX: usize = 24;

/// Longest piece taken from an example.
const PIECE_BYTES_MAX: usize = 120;

/// Texts tried, and those of a short run.
const TRIES: u32 = 3_000;
const TRIES_SMOKE: u32 = 10;

/// The last text is scanned so often and the least time counts: others only ever make it slower.
const ROUNDS: usize = 9;

/// Texts of words none of which comes twice, and how often each is scanned.
const UNREPEATED: usize = 16;
const UNREPEATED_SMOKE: usize = 2;
const UNREPEATED_ROUNDS: usize = 5;

/// Bytes a second a core must manage whatever the text says.
const BYTES_PER_SECOND_MIN: f64 = 15e6;

/// Texts that were the slowest of their kind, by what is repeated: a scan that is made faster for one of them is often
/// still slow for another.
const KINDS: &[(&str, &str)] = &[
    ("dots", "."),
    ("brackets", "<"),
    ("steps up", "/.."),
    ("digits", "4"),
    ("a letter", "A"),
    ("a word of attacks", "ignore all previous "),
    ("a word of leaks", "send the secret to "),
    ("the end of a word", "ystem prompt to users."),
    ("commands", "curl -d @"),
    ("names of keys", "$AWS_SECRET_ACCESS_KEY "),
    ("what keys begin with", "sk-"),
    ("bytes that delete", "a\u{8}"),
    ("letters as digits", "1gn0r3 4ll "),
    ("letters apart", "i g n o r e "),
    (
        "values that fail their checks",
        "3N\"<b>og.auth_token = 'c3D7429860Fed1cBa95e4faABCDEFGHIJKLMNOPQRSTUVWXthis on erongi\u{200b}%61",
    ),
    (
        "every cipher",
        "jhopsf kipqtg ljqrvh mkrswi nlstxj omtuyk pnuvzl qovwam rpwxbn sqxyco tryzdp uszaeq vtaber wubcfs xvcdgt \
         ywdehu zxefiv ayfgjw bzghkx cahily dbijmz ecjkna fdklob gelmpc hfmnqd erongi x8?@C6 rtmliv ",
    ),
];

/// What asks for views, and what automata run on for long.
const SIGNS: &[&str] = &[
    "a",
    " ",
    "\n",
    "\"",
    "\\u0061",
    "&#x61;",
    "%61",
    "<b>",
    "**",
    "`",
    "~~",
    "4",
    "1gn0r3",
    "\u{200b}",
    "\u{430}",
    "\u{ff41}",
    "aGVsbG8gd29ybGQgaGVsbG8=",
    "68656c6c6f20776f726c64",
    "i g n o r e",
    "{\"a\":\"",
    "https://a.b/?c=",
    "tion",
    "$(",
    "../",
    "=",
    "0x41,",
    "+1 555 0100 ",
];

struct Search {
    scanner: Scanner,
    random: Random,
    examples: Vec<String>,
}

#[derive(Clone)]
struct Candidate {
    pieces: Vec<String>,
    nanos_per_byte: f64,
}

pub(super) fn measure(context: &mut Context<'_>) {
    let rules = RuleSet::builtin();
    let database =
        Arc::new(Database::compile(&rules).expect("the built-in rules compile: a test says so"));
    let examples = rules.rules.iter().flat_map(|rule| &rule.examples.matching);
    let mut search = Search {
        scanner: Scanner::new(database).expect("there is memory for one scratch space"),
        random: Random::new(7),
        examples: examples.cloned().collect(),
    };
    let repeated = search.repeated(context);
    let unrepeated = search.unrepeated(context, &rules);
    let per_second = 1e9 / repeated.max(unrepeated);
    context.claim(
        per_second >= BYTES_PER_SECOND_MIN,
        format_args!(
            "the worst text is scanned with {:.1} MB/s, at least {:.0}",
            per_second / 1e6,
            BYTES_PER_SECOND_MIN / 1e6
        ),
    );
}

impl Search {
    /// Searches for a row that is slow when it is repeated: nanoseconds for each byte.
    fn repeated(&mut self, context: &mut Context<'_>) -> f64 {
        let tries = if context.smoke { TRIES_SMOKE } else { TRIES };
        let mut worst = self.measured(vec![String::from(SIGNS[0])]);
        for (kind, row) in KINDS {
            let known = self.measured(vec![(*row).to_owned()]);
            let limits = self.limits(&filled(&known.pieces));
            context.say(format_args!(
                "{kind}: {:.1} MB/s, limits reached: [{limits}]",
                1e3 / known.nanos_per_byte
            ));
            if known.nanos_per_byte > worst.nanos_per_byte {
                worst = known;
            }
        }
        for _ in 0..tries {
            let next = self.changed(&worst.pieces);
            let next = self.measured(next);
            // A disturbed measurement must not win: it has to win again.
            if next.nanos_per_byte > worst.nanos_per_byte {
                let again = self.measured(next.pieces);
                if again.nanos_per_byte > worst.nanos_per_byte {
                    worst = again;
                }
            }
        }
        let text = filled(&worst.pieces);
        let nanos_per_byte = self.least_per_byte(&text, ROUNDS);
        let limits = self.limits(&text);
        context.say(format_args!(
            "worst of {tries} texts of {TEXT_BYTES} bytes: {nanos_per_byte:.0} ns for each byte, limits reached: [{limits}]"
        ));
        context.say(format_args!("it repeats {:?}", worst.pieces.concat()));
        nanos_per_byte
    }

    /// Scans words of rules in any order: nanoseconds for each byte of the slowest text.
    fn unrepeated(&mut self, context: &mut Context<'_>, rules: &RuleSet) -> f64 {
        let words = words(rules);
        let texts = if context.smoke {
            UNREPEATED_SMOKE
        } else {
            UNREPEATED
        };
        let mut all: Vec<f64> = (0..texts)
            .map(|_| {
                let text = self.shuffled(&words);
                self.least_per_byte(&text, UNREPEATED_ROUNDS)
            })
            .collect();
        all.sort_by(f64::total_cmp);
        let worst = all[texts - 1];
        context.say(format_args!(
            "{texts} texts of {TEXT_BYTES} bytes in which no word of {} comes twice: {:.0} to {worst:.0} ns for each byte",
            words.len(),
            all[0],
        ));
        worst
    }

    /// So many of the words as a text has room for, in some order.
    fn shuffled(&mut self, words: &[String]) -> Vec<u8> {
        let mut left: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut text = String::with_capacity(2 * TEXT_BYTES);
        while text.len() < TEXT_BYTES && !left.is_empty() {
            let at = self.below(left.len());
            text.push_str(left.swap_remove(at));
            text.push(' ');
        }
        text.into_bytes()
    }

    fn least_per_byte(&mut self, text: &[u8], rounds: usize) -> f64 {
        let least = (0..rounds).map(|_| self.nanos(text)).min().unwrap_or(0);
        least as f64 / text.len() as f64
    }

    fn measured(&mut self, pieces: Vec<String>) -> Candidate {
        let text = filled(&pieces);
        let nanos = self.nanos(&text).min(self.nanos(&text));
        Candidate {
            nanos_per_byte: nanos as f64 / text.len() as f64,
            pieces,
        }
    }

    /// Time of one scan.
    fn nanos(&mut self, text: &[u8]) -> u128 {
        let begun = Instant::now();
        self.limits(text);
        begun.elapsed().as_nanos()
    }

    fn limits(&mut self, text: &[u8]) -> LimitsReached {
        let scanned = self.scanner.scan(text, Surface::Message);
        scanned.expect("the content is short enough").limits
    }

    /// The pieces with one of them changed.
    fn changed(&mut self, pieces: &[String]) -> Vec<String> {
        let mut pieces = pieces.to_vec();
        let at = self.below(pieces.len());
        match self.below(5) {
            0 if pieces.len() > 1 => {
                pieces.remove(at);
            }
            1 => {
                let other = self.below(pieces.len());
                pieces.swap(at, other);
            }
            2 => pieces[at] = self.piece(),
            _ if pieces.len() < PIECES_MAX => {
                let piece = self.piece();
                pieces.insert(at, piece);
            }
            _ => pieces[at] = self.piece(),
        }
        pieces
    }

    /// A sign, or some of what a rule matches.
    fn piece(&mut self) -> String {
        if self.below(3) == 0 {
            return SIGNS[self.below(SIGNS.len())].to_owned();
        }
        let example = self.below(self.examples.len());
        let chars: Vec<char> = self.examples[example].chars().collect();
        let start = self.below(chars.len().max(1));
        let len = 1 + self.below(PIECE_BYTES_MAX);
        chars.iter().skip(start).take(len).collect()
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.below(end as u64) as usize
    }
}

/// The pieces again and again, to the length of a text.
fn filled(pieces: &[String]) -> Vec<u8> {
    let row = pieces.concat();
    row.bytes().cycle().take(TEXT_BYTES).collect()
}

/// The words that rules look for: of their expressions as they are written, and of their examples.
fn words(rules: &RuleSet) -> Vec<String> {
    let escape = Regex::new(r"\\[A-Za-z]").expect("written here");
    let word = Regex::new("[A-Za-z]{3,}").expect("written here");
    let mut words = BTreeSet::new();
    for rule in &rules.rules {
        for pattern in &rule.patterns {
            let plain = escape.replace_all(pattern.expression.as_str(), " ");
            words.extend(word.find_iter(&plain).map(|one| one.as_str().to_owned()));
        }
        for example in &rule.examples.matching {
            words.extend(example.split_whitespace().map(str::to_owned));
        }
    }
    words.into_iter().collect()
}
