//! Held messages: release, discard, expiry, and what must not be released.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use oktsec_audit::{Filter, Held, HeldStatus, Log, Review, ReviewError};
use oktsec_contract::held_room::HELD_ENTRY_BYTES;
use oktsec_contract::reason::Reason;
use oktsec_contract::record::RecordRef;
use oktsec_contract::verdict::Status;
use sha2::{Digest, Sha256};
use support::{Numbers, T0, append, hold, id, reader, record, start, verify, wait_until};

#[test]
fn a_held_message_is_reviewed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    append(&log, 0..3);
    let content = hold(&log, 3, T0.plus_secs(3600));
    hold(&log, 4, T0.plus_secs(3600));
    assert_eq!(log.health().held_pending, 2);

    let now = T0.plus_secs(60);
    // Both are on their way before the first is answered.
    let first = log.resolve(id(3), Review::Release, "olga", now).unwrap();
    let second = log.resolve(id(3), Review::Discard, "otto", now).unwrap();
    let resolved = first.wait().unwrap();
    assert_eq!(resolved.item.status, HeldStatus::Approved);
    assert_eq!(resolved.item.content.as_deref(), Some(content.as_bytes()));
    assert_eq!(resolved.sequence, 6);
    assert_eq!(
        second.wait(),
        Err(ReviewError::NotPending {
            status: HeldStatus::Approved
        })
    );
    let discarded = log
        .resolve(id(4), Review::Discard, "otto", now)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(discarded.item.status, HeldStatus::Rejected);
    let unknown = log
        .resolve(id(0), Review::Release, "olga", now)
        .unwrap()
        .wait();
    assert_eq!(unknown, Err(ReviewError::NotFound));
    writer.shutdown();

    let reader = reader(dir.path());
    let stats = reader.held_stats().unwrap();
    assert_eq!(
        (stats.pending, stats.approved, stats.rejected, stats.total),
        (0, 1, 1, 2)
    );
    let item = reader.held(id(3)).unwrap().unwrap();
    assert_eq!(
        (item.status, &*item.reviewed_by),
        (HeldStatus::Approved, "olga")
    );
    assert_eq!(item.reviewed_at, Some(now));
    // The review is a record of its own; the one about the message stays as it was.
    let reviews = Filter {
        decision: Some(String::from("quarantine_approved")),
        limit: 9,
        ..Filter::default()
    };
    let found = reader.query(&reviews).unwrap();
    assert_eq!(found.len(), 1);
    let mut findings = Vec::new();
    let review = found[0].record(&mut findings).unwrap();
    assert_eq!(
        (review.about, review.detail, review.from),
        (Some(id(3)), "olga", "ann")
    );
    let original = reader.get(id(3)).unwrap().unwrap();
    assert_eq!(
        original.record(&mut Vec::new()).unwrap().status,
        Status::Quarantined
    );
    assert!(verify(dir.path()).valid);
}

#[test]
fn contents_are_removed_some_time_after_the_review_and_everything_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    let day = 86_400;
    for number in 0..3 {
        hold(&log, number, T0.plus_secs(10 * day));
    }
    hold(&log, 3, T0.plus_secs(day));
    let review = |number, action, at| {
        let answer = log.resolve(id(number), action, "olga", T0.plus_secs(at));
        answer.unwrap().wait().unwrap();
    };
    review(0, Review::Release, 60);
    review(1, Review::Discard, 2 * day);
    let tidy = |at| log.expire_held(T0.plus_secs(at)).unwrap().wait().unwrap();
    let contents = || {
        let reader = reader(dir.path());
        let has = |number| reader.held(id(number)).unwrap().unwrap().content.is_some();
        [has(0), has(1), has(2), has(3)]
    };
    // Without a word from the operator nothing is removed.
    assert_eq!(tidy(5 * day), 1);
    assert_eq!(contents(), [true; 4]);

    log.keep_contents(3 * day);
    assert_eq!(tidy(3 * day + 59), 0);
    assert_eq!(contents(), [true; 4]);
    tidy(3 * day + 60);
    assert_eq!(contents(), [false, true, true, true]);
    // The fourth expired when that was noticed, on the fifth day; the third still waits for somebody.
    tidy(8 * day);
    assert_eq!(contents(), [false, false, true, false]);
    writer.shutdown();

    let (_log, writer) = start(dir.path());
    let reader = reader(dir.path());
    let item = reader.held(id(0)).unwrap().unwrap();
    assert_eq!(
        (item.status, &*item.reviewed_by),
        (HeldStatus::Approved, "olga")
    );
    assert!(item.record.is_some());
    assert_eq!(reader.held_stats().unwrap().total, 4);
    assert!(verify(dir.path()).valid);
    writer.shutdown();
}

/// What one content of [`hold_large`] takes.
const LARGE_BYTES: u64 = (64 << 10) + HELD_ENTRY_BYTES;

/// Holds a message of 64 KiB that no compression makes smaller, if there is room.
fn hold_large(log: &Log, number: u64) -> bool {
    let mut numbers = Numbers(number + 1);
    let content: Vec<u8> = (0..64 << 7)
        .flat_map(|_| numbers.next().to_be_bytes())
        .collect();
    let Some(place) = log.held_room().take(content.len()) else {
        return false;
    };
    let held = RecordRef {
        status: Status::Quarantined,
        reason: Reason::ContentQuarantined,
        content_hash: Sha256::digest(&content).into(),
        ..record(number)
    };
    let mut batch = log.batch();
    let content = Held {
        content: &content,
        expires_at: T0.plus_secs(3600),
        place: Some(place),
    };
    batch.push(&held, Some(content)).unwrap();
    log.append(batch).unwrap().wait().unwrap();
    true
}

#[test]
fn contents_take_no_more_than_their_room_and_the_reviewed_first_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    log.held_room().set_bytes_max(8 * LARGE_BYTES);
    let discard = |number| {
        let now = T0.plus_secs(number);
        let answer = log.resolve(id(number), Review::Discard, "olga", now);
        answer.unwrap().wait().unwrap();
    };
    let contents = || {
        let reader = reader(dir.path());
        let has = |&number: &u64| {
            let item = reader.held(id(number)).unwrap();
            item.is_some_and(|item| item.content.is_some())
        };
        (0..10).filter(has).collect::<Vec<_>>()
    };
    assert!((0..8).all(|number| hold_large(&log, number)));
    assert!(!hold_large(&log, 8), "all of it waits for an operator");
    discard(3);
    discard(1);
    assert_eq!(
        contents().len(),
        8,
        "there is room for those that were reviewed"
    );
    let health = log.health().contents;
    assert_eq!(health.pending_bytes, 6 * LARGE_BYTES);
    assert_eq!(health.reviewed_bytes, 2 * LARGE_BYTES);
    for number in 8..10 {
        assert!(hold_large(&log, number));
    }
    assert!(!hold_large(&log, 10));
    // Tidying up comes after the answer to the message that made it necessary.
    wait_until("removing", || log.health().contents.removed_total == 2);
    assert_eq!(contents(), [0, 2, 4, 5, 6, 7, 8, 9]);
    let removals = Filter {
        decision: Some(String::from("contents_removed")),
        limit: 9,
        ..Filter::default()
    };
    assert!(!reader(dir.path()).query(&removals).unwrap().is_empty());
    let before = log.health().contents;
    assert_eq!(before.pending_bytes, log.held_room().taken());
    writer.shutdown();

    let (log, writer) = start(dir.path());
    log.held_room().set_bytes_max(8 * LARGE_BYTES);
    let after = log.health().contents;
    assert_eq!(after.pending_bytes, before.pending_bytes);
    assert_eq!(after.reviewed_bytes, before.reviewed_bytes);
    assert!(!hold_large(&log, 10));
    writer.shutdown();
    assert!(verify(dir.path()).valid);
}

#[test]
fn what_is_removed_is_given_back_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    let bytes_max = 256 * LARGE_BYTES;
    log.held_room().set_bytes_max(bytes_max);
    for number in 0..2_560 {
        assert!(hold_large(&log, number), "{number}");
        let answer = log.resolve(id(number), Review::Discard, "olga", T0);
        answer.unwrap().wait().unwrap();
    }
    writer.shutdown();
    // Ten times as much was written.
    let bytes = folder_bytes(&dir.path().join("audit"));
    assert!(bytes < 2 * bytes_max, "{bytes} of {bytes_max}");
}

fn folder_bytes(folder: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().metadata().map_or(0, |found| found.len()))
        .sum()
}

#[test]
fn held_messages_expire_and_cannot_be_released_after_that() {
    let dir = tempfile::tempdir().unwrap();
    let (log, writer) = start(dir.path());
    for number in 0..5 {
        hold(&log, number, T0.plus_secs(100 + number));
    }
    let count = log.expire_held(T0.plus_secs(102)).unwrap().wait().unwrap();
    assert_eq!(count, 3);
    assert_eq!(log.expire_held(T0.plus_secs(102)).unwrap().wait(), Ok(0));
    let late = log
        .resolve(id(1), Review::Release, "olga", T0.plus_secs(103))
        .unwrap()
        .wait();
    assert_eq!(
        late,
        Err(ReviewError::NotPending {
            status: HeldStatus::Expired
        })
    );
    // Not yet swept, but over: the review itself expires it.
    let over = log
        .resolve(id(3), Review::Release, "olga", T0.plus_secs(103))
        .unwrap()
        .wait();
    assert_eq!(
        over,
        Err(ReviewError::NotPending {
            status: HeldStatus::Expired
        })
    );
    let reader = reader(dir.path());
    let stats = reader.held_stats().unwrap();
    assert_eq!((stats.pending, stats.expired), (1, 4));
    let pending = reader.held_list(Some(HeldStatus::Pending), 10).unwrap();
    assert_eq!(
        pending.iter().map(|item| item.id).collect::<Vec<_>>(),
        [id(4)]
    );
    let all = reader.held_list(None, 3).unwrap();
    let ids: Vec<_> = all.iter().map(|item| item.id).collect();
    assert_eq!(ids, [id(4), id(3), id(2)], "newest first");
    assert!(
        all.iter()
            .all(|item| item.content.is_none() && item.record.is_some())
    );
    writer.shutdown();
    assert!(verify(dir.path()).valid);
}

#[test]
fn content_that_is_not_what_the_chain_vouches_for_is_not_released() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _writer) = start(dir.path());
    let mut batch = log.batch();
    let held = RecordRef {
        reason: Reason::ContentQuarantined,
        ..record(1)
    };
    let other = Held {
        content: b"something else",
        expires_at: T0.plus_secs(100),
        place: None,
    };
    batch.push(&held, Some(other)).unwrap();
    log.append(batch).unwrap().wait().unwrap();
    let released = log
        .resolve(id(1), Review::Release, "olga", T0)
        .unwrap()
        .wait();
    assert!(
        matches!(released, Err(ReviewError::Damaged(_))),
        "{released:?}"
    );
    let discarded = log
        .resolve(id(1), Review::Discard, "olga", T0)
        .unwrap()
        .wait()
        .unwrap();
    assert_eq!(discarded.item.status, HeldStatus::Rejected);
}
