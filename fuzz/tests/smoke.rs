//! A moment of every fuzz target on the stable toolchain: seeds, then seeds damaged by a fixed random walk, so a
//! failure comes back with the same name and round. `OKTSEC_FUZZ_ROUNDS` makes it longer, `OKTSEC_FUZZ_WALK` takes another
//! walk.

use oktsec_fuzz::TARGETS;

/// SplitMix64: fixed, so that a round is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }
}

#[test]
fn every_parser_of_outside_bytes_survives_a_fixed_random_walk() {
    let number = |variable: &str, usual: u64| {
        let text = std::env::var(variable).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (rounds, walk) = (
        number("OKTSEC_FUZZ_ROUNDS", 400),
        number("OKTSEC_FUZZ_WALK", 7),
    );
    for target in TARGETS {
        let mut random = Random(walk);
        let mut pool: Vec<Vec<u8>> = target.seeds.iter().map(|seed| seed.to_vec()).collect();
        pool.push(Vec::new());
        for round in 0..rounds {
            let at = random.below(pool.len());
            let mut input = pool[at].clone();
            for _ in 0..=random.below(4) {
                damage(&mut input, &pool, &mut random);
            }
            input.truncate(4 << 10);
            let entry = target.entry;
            let survived = std::panic::catch_unwind(|| entry(&input)).is_ok();
            assert!(
                survived,
                "{} fails in round {round} of walk {walk} on {input:?}",
                target.name
            );
            if random.below(8) == 0 && pool.len() < 256 {
                pool.push(input);
            }
        }
    }
}

fn damage(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let byte = u8::try_from(random.next() & 255).unwrap_or(0);
    match random.below(6) {
        0 => input.insert(at, byte),
        1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 if at < input.len() => drop(input.remove(at)),
        3 => input.truncate(at),
        4 => {
            let other = &pool[random.below(pool.len())];
            let from = random.below(other.len() + 1);
            let piece = other[from..].to_vec();
            input.splice(at..at, piece);
        }
        _ => {
            let piece = input[at..].to_vec();
            input.extend(piece);
        }
    }
}
