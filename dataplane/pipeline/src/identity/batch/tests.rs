#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
use super::*;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

fn check(seed: u8, number: u8) -> SignatureCheck {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let payload = vec![number; 40];
    SignatureCheck {
        id: MessageId([number; 16]),
        key: key.verifying_key(),
        signature: key.sign(&payload).to_bytes(),
        payload,
        v1_bytes: None,
    }
}

#[test]
fn a_proof_is_good_for_its_own_message_only() {
    let proof = Proof::single(check(1, 7));
    assert!(proof.holds_for(MessageId([7; 16])));
    assert!(!proof.holds_for(MessageId([8; 16])));
    assert!(!Proof::none().holds_for(MessageId([7; 16])));
}

#[test]
fn a_version_one_payload_may_stand_in_where_no_version_is_configured() {
    let mut both = check(1, 7);
    both.v1_bytes = Some(both.payload.len());
    both.payload.extend_from_slice(b"\n2");
    assert!(Proof::single(both).holds_for(MessageId([7; 16])));
}

proptest! {
    /// The slow obvious way judges the fast one, on honest and on corrupted signatures.
    #[test]
    fn together_is_the_same_as_one_by_one(
        damage in proptest::collection::vec((0u8..6, 0usize..64, 1u8..=255), 1..40),
    ) {
        let make = || damage.iter().enumerate().map(|(n, &(kind, at, flip))| {
            let mut one = check(n as u8 % 5, n as u8);
            match kind {
                0 => one.signature[at] ^= flip,
                1 => { let i = at % one.payload.len(); one.payload[i] ^= flip }
                2 => one.key = check(99, 0).key,
                _ => {}
            }
            one
        });
        let mut batch = SignatureBatch::new();
        make().for_each(|c| batch.push(c));
        batch.verify();
        let together: Vec<bool> = batch
            .finish()
            .zip(make())
            .map(|(proof, check)| proof.holds_for(check.id))
            .collect();
        let singly: Vec<bool> = make().map(|c| { let id = c.id; Proof::single(c).holds_for(id) }).collect();
        prop_assert_eq!(together, singly);
        prop_assert!(batch.is_empty());
    }
}
