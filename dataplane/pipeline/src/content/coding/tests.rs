//! Every coding, in every cut, on top of each other, broken, and swollen.

use std::io::Write as _;

use flate2::Compression;

use super::*;

const TEXT: &[u8] = b"The quick brown fox jumps over the lazy dog, and again: the quick brown fox.";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// One uncompressed metablock (RFC 7932 §9.2) and the empty last one: an encoder is not needed to test a decoder.
fn brotli(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len() as u32 - 1;
    assert!(len < 1 << 16);
    // Bits, lowest first: window 16 (0), not last (0), length in four nibbles (00), the length, uncompressed (1).
    let header = len << 4 | 1 << 20;
    let mut out = header.to_le_bytes()[..3].to_vec();
    out.extend_from_slice(bytes);
    out.push(3);
    out
}

fn decode(header: &str, pieces: &[&[u8]]) -> Result<Vec<u8>, ContentError> {
    decode_within(header, DecodeLimits::default(), pieces)
}

fn decode_within(
    header: &str,
    limits: DecodeLimits,
    pieces: &[&[u8]],
) -> Result<Vec<u8>, ContentError> {
    let mut codings = Codings::parse(header, limits)?;
    let mut out = Vec::new();
    for piece in pieces {
        let mut sink = |piece: Piece<'_>| {
            if let Piece::Text(text) = piece {
                out.extend_from_slice(text);
            }
            Ok::<(), ()>(())
        };
        match codings.push(piece, &mut sink) {
            Ok(()) => {}
            Err(Stop::Content(error)) => return Err(error),
            Err(Stop::Sink(())) => unreachable!("the sink takes everything"),
        }
    }
    Ok(out)
}

#[test]
fn every_coding_is_undone_at_every_split() {
    let cases = [
        ("gzip", gzip(TEXT)),
        ("X-GZIP", gzip(TEXT)),
        ("deflate", zlib(TEXT)),
        ("deflate", raw(TEXT)),
        ("br", brotli(TEXT)),
        ("zstd", zstd(TEXT)),
        ("identity", TEXT.to_vec()),
        ("", TEXT.to_vec()),
        ("gzip, br", brotli(&gzip(TEXT))),
        ("zstd, gzip", gzip(&zstd(TEXT))),
        ("deflate,gzip,zstd", zstd(&gzip(&zlib(TEXT)))),
    ];
    for (header, coded) in &cases {
        for at in 0..=coded.len() {
            let (a, b) = coded.split_at(at);
            assert_eq!(decode(header, &[a, b]).unwrap(), TEXT, "{header} {at}");
        }
        let bytes: Vec<&[u8]> = coded.chunks(1).collect();
        assert_eq!(decode(header, &bytes).unwrap(), TEXT, "{header}");
    }
}

#[test]
fn content_larger_than_a_step_comes_out_whole() {
    let plain: Vec<u8> = (0..300_000_u32)
        .flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_le_bytes())
        .collect();
    for (header, coded) in [
        ("gzip", gzip(&plain)),
        ("deflate", raw(&plain)),
        ("zstd", zstd(&plain)),
    ] {
        for len in [1_000, 65_536, coded.len()] {
            let pieces: Vec<&[u8]> = coded.chunks(len).collect();
            assert!(decode(header, &pieces).unwrap() == plain, "{header} {len}");
        }
    }
}

#[test]
fn gzip_members_follow_each_other_and_headers_may_carry_names() {
    let mut named = flate2::GzBuilder::new()
        .filename("name")
        .comment("a comment")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), Compression::default());
    named.write_all(b" third").unwrap();
    let coded = [
        gzip(b"first"),
        gzip(b" second"),
        vec![0; 7],
        named.finish().unwrap(),
    ]
    .concat();
    for at in 0..=coded.len() {
        let (a, b) = coded.split_at(at);
        assert_eq!(
            decode("gzip", &[a, b]).unwrap(),
            b"first second third",
            "{at}"
        );
    }
}

#[test]
fn what_follows_a_coding_is_scanned_as_it_is() {
    for (header, coded) in [
        ("gzip", gzip(TEXT)),
        ("deflate", raw(TEXT)),
        ("br", brotli(TEXT)),
    ] {
        let coded = [&coded[..], b" and more"].concat();
        let decoded = decode(header, &[&coded]).unwrap();
        assert!(
            decoded.starts_with(TEXT) && decoded.ends_with(b"and more"),
            "{header}"
        );
    }
}

#[test]
fn a_body_cut_short_gives_what_is_there() {
    for (header, coded) in [
        ("gzip", gzip(TEXT)),
        ("deflate", zlib(TEXT)),
        ("zstd", zstd(TEXT)),
    ] {
        for len in 0..coded.len() {
            let decoded = decode(header, &[&coded[..len]]).unwrap();
            assert!(TEXT.starts_with(&decoded), "{header} {len}");
        }
    }
}

#[test]
fn what_is_not_of_its_coding_is_refused() {
    for header in ["gzip", "deflate", "br", "zstd"] {
        let bytes = [0xFE; 64];
        assert_eq!(
            decode(header, &[&bytes]),
            Err(ContentError::Malformed),
            "{header}"
        );
    }
    assert_eq!(
        decode("gzip", &[&[0x1F, 0x8B, 8, 0xE0]]),
        Err(ContentError::Malformed)
    );
    assert_eq!(decode("compress", &[]), Err(ContentError::CodingUnknown));
    assert_eq!(
        decode("gzip, gzip, gzip, gzip", &[]),
        Err(ContentError::CodingsTooMany)
    );
}

#[test]
fn bombs_are_refused_and_swollen_honest_content_is_not() {
    let zeros = vec![0; 64 << 20];
    let bomb = gzip(&zeros);
    assert_eq!(decode("gzip", &[&bomb]), Err(ContentError::Bomb));
    assert_eq!(decode("zstd", &[&zstd(&zeros)]), Err(ContentError::Bomb));
    // Twice: the ratio is that of all codings together.
    let twice = gzip(&bomb);
    assert!(twice.len() < 2_000);
    assert_eq!(decode("gzip, gzip", &[&twice]), Err(ContentError::Bomb));
    assert_eq!(
        decode("gzip", &[&gzip(&zeros[..16 << 20])]).unwrap().len(),
        16 << 20
    );
    let limits = DecodeLimits {
        bytes_max: 1_000,
        ..DecodeLimits::default()
    };
    assert_eq!(
        decode_within("gzip", limits, &[&gzip(&[b'x'; 1_001])]),
        Err(ContentError::Bomb)
    );
    assert!(decode_within("gzip", limits, &[&gzip(&[b'x'; 1_000])]).is_ok());
}

#[test]
fn windows_of_zstd_beyond_what_http_allows_are_refused() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(TEXT).unwrap();
    assert_eq!(
        decode("zstd", &[&encoder.finish().unwrap()]),
        Err(ContentError::Malformed)
    );
}
