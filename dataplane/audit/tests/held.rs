//! Held messages: release, discard, expiry, and what must not be released.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use oktsec_audit::{Filter, Held, HeldStatus, Review, ReviewError};
use oktsec_contract::reason::Reason;
use oktsec_contract::record::RecordRef;
use oktsec_contract::verdict::Status;
use support::{T0, append, hold, id, reader, record, start, verify};

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
