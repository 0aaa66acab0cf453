use super::*;
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use sha2::{Digest as _, Sha512};

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

/// A signature of the key holder's own making, with this encoding of `R`: `s` fits as if `R` were the identity.
fn crafted(seed: u8, number: u8, point: [u8; 32]) -> SignatureCheck {
    let mut check = check(seed, number);
    let mut hash = Sha512::new();
    hash.update(point);
    hash.update(check.key.as_bytes());
    hash.update(&check.payload);
    let secret = SigningKey::from_bytes(&[seed; 32]).to_scalar();
    let response = Scalar::from_bytes_mod_order_wide(&hash.finalize().into()) * secret;
    check.signature[..32].copy_from_slice(&point);
    check.signature[32..].copy_from_slice(response.as_bytes());
    check
}

/// Every y that more than one encoding names, or that belongs to a point of small order: with both signs.
fn odd_points() -> Vec<[u8; 32]> {
    let mut all: Vec<[u8; 32]> = EIGHT_TORSION
        .iter()
        .map(|p| p.compress().to_bytes())
        .collect();
    // p, p + 1, …, 2^255 - 1: y = 0 to 18 once more.
    for low in 0xed..=0xffu8 {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        all.push(bytes);
    }
    let flipped = all.clone().into_iter().map(|mut bytes| {
        bytes[31] ^= 0x80;
        bytes
    });
    all.extend(flipped);
    all
}

#[test]
fn a_crafted_point_is_refused_alone_and_in_a_batch_as_the_strict_library_does() {
    let identity = EIGHT_TORSION[0].compress().to_bytes();
    let lenient = crafted(1, 1, identity);
    let signature = Signature::from_bytes(&lenient.signature);
    assert!(
        lenient.key.verify(&lenient.payload, &signature).is_ok(),
        "the craft works"
    );
    for point in odd_points() {
        let one = crafted(1, 1, point);
        let signature = Signature::from_bytes(&one.signature);
        assert!(one.key.verify_strict(&one.payload, &signature).is_err());
        assert!(!verify_single(&one), "{point:02x?}");
        let mut batch = SignatureBatch::new();
        batch.push(one);
        batch.push(check(2, 2));
        batch.verify();
        let held: Vec<bool> = batch.finish().map(|proof| proof.held.is_some()).collect();
        assert_eq!(held, [false, true], "{point:02x?}");
    }
}

#[test]
fn signatures_that_only_cancel_each_other_out_are_refused() {
    let mut batch = SignatureBatch::new();
    let (mut one, mut other) = (check(1, 1), check(1, 2));
    let shift = |check: &mut SignatureCheck, by: Scalar| {
        let response: [u8; 32] = check.signature[32..].try_into().unwrap();
        let response = Scalar::from_canonical_bytes(response).unwrap() + by;
        check.signature[32..].copy_from_slice(response.as_bytes());
    };
    shift(&mut one, Scalar::from(5u8));
    shift(&mut other, -Scalar::from(5u8));
    batch.push(one);
    batch.push(other);
    batch.verify();
    assert!(batch.finish().all(|proof| proof.held.is_none()));
}

#[test]
fn a_response_above_the_group_order_is_refused_alone_and_in_a_batch() {
    // s and s + l verify alike where nobody looks.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let raised = |number| {
        let mut check = check(1, number);
        let mut carry = 0u16;
        for (byte, order) in check.signature[32..].iter_mut().zip(ORDER) {
            carry += u16::from(*byte) + u16::from(order);
            *byte = carry as u8;
            carry >>= 8;
        }
        check
    };
    assert!(!verify_single(&raised(1)));
    let mut batch = SignatureBatch::new();
    (1..3).for_each(|number| batch.push(raised(number)));
    batch.verify();
    assert!(batch.finish().all(|proof| proof.held.is_none()));
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
        let strictly: Vec<bool> = make()
            .map(|c| c.key.verify_strict(&c.payload, &Signature::from_bytes(&c.signature)).is_ok())
            .collect();
        prop_assert_eq!(&together, &singly);
        prop_assert_eq!(singly, strictly);
        prop_assert!(batch.is_empty());
    }
}
