use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_secs(1_771_754_400);

fn parse(body: &str) -> Result<ParsedMessage, Reason> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    ParsedMessage::parse(
        body,
        Headers::default(),
        Buffers::default(),
        &RandomState::new(),
        NOW,
    )
}

#[test]
fn what_is_no_message_is_refused_with_its_reason() {
    let deep = format!(
        r#"{{"from":"a","to":"b","content":"c","x":{}1{}}}"#,
        "[".repeat(40),
        "]".repeat(40)
    );
    let long = format!(r#"{{"from":"{}","to":"b","content":"c"}}"#, "a".repeat(129));
    let keys: Vec<String> = (0..300).map(|n| format!(r#""k{n}":"v""#)).collect();
    let wide = format!(
        r#"{{"from":"a","to":"b","content":"c","metadata":{{{}}}}}"#,
        keys.join(",")
    );
    for (body, reason) in [
        ("", Reason::JsonInvalid),
        ("null", Reason::JsonInvalid),
        ("[]", Reason::JsonInvalid),
        ("{", Reason::JsonInvalid),
        ("{}", Reason::FieldMissing),
        (r#"{"from":"a","to":"b"}"#, Reason::FieldMissing),
        (
            r#"{"from":"a","to":"b","content":""}"#,
            Reason::FieldMissing,
        ),
        (
            r#"{"FROM":"a","to":"b","content":"c"}"#,
            Reason::FieldMissing,
        ),
        (
            r#"{"from":"a","to":"b","content":"c"} x"#,
            Reason::JsonInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"c"}{}"#,
            Reason::JsonInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"c",}"#,
            Reason::JsonInvalid,
        ),
        (
            r#"{"from":"a","from":"b","to":"b","content":"c"}"#,
            Reason::JsonDuplicateKey,
        ),
        (
            r#"{"from":"a","fr\u006fm":"b","to":"b","content":"c"}"#,
            Reason::JsonDuplicateKey,
        ),
        (
            r#"{"from":"a","to":"b","content":"c","x":{"y":1,"y":2}}"#,
            Reason::JsonDuplicateKey,
        ),
        (
            r#"{"from":1,"to":"b","content":"c"}"#,
            Reason::FieldTypeInvalid,
        ),
        (
            r#"{"from":"a","to":["b"],"content":"c"}"#,
            Reason::FieldTypeInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":{"x":"y"}}"#,
            Reason::FieldTypeInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"c","metadata":{"n":1}}"#,
            Reason::FieldTypeInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"c","metadata":"x"}"#,
            Reason::FieldTypeInvalid,
        ),
        (
            r#"{"from":"a\nx","to":"b","content":"c"}"#,
            Reason::NameInvalid,
        ),
        (
            r#"{"from":"a","to":"b\u0000","content":"c"}"#,
            Reason::NameInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"\ud800"}"#,
            Reason::JsonInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"\udc00"}"#,
            Reason::JsonInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"\x41"}"#,
            Reason::JsonInvalid,
        ),
        (
            "{\"from\":\"a\",\"to\":\"b\",\"content\":\"a\u{1}b\"}",
            Reason::JsonInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"c","x":01}"#,
            Reason::JsonInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"c","x":tru}"#,
            Reason::JsonInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"c","timestamp":"today"}"#,
            Reason::TimestampInvalid,
        ),
        (
            r#"{"from":"a","to":"b","content":"c","timestamp":"2026-02-22T09:54:59Z"}"#,
            Reason::TimestampTooOld,
        ),
        (
            r#"{"from":"a","to":"b","content":"c","timestamp":"2026-02-22T10:00:31Z"}"#,
            Reason::TimestampAhead,
        ),
        (&deep, Reason::JsonTooDeep),
        (&wide, Reason::JsonTooDeep),
        (&long, Reason::NameInvalid),
    ] {
        assert_eq!(parse(body).err(), Some(reason), "{body}");
    }
    let invalid = Bytes::from_static(b"{\"from\":\"a\",\"to\":\"b\",\"content\":\"\xff\"}");
    let result = ParsedMessage::parse(
        invalid,
        Headers::default(),
        Buffers::default(),
        &RandomState::new(),
        NOW,
    );
    assert_eq!(result.err(), Some(Reason::JsonInvalid), "not UTF-8");
}

#[test]
fn what_clients_send_is_read() {
    let parsed = parse(
        r#" {"content":"l\u00ednea 1\nline 2 \ud83d\ude00 \"q\" \\ \/","to":"b","x":[1,-2.5e3,{"y":null}],
            "from":"a","timestamp":"2026-02-22T11:00:00.5+01:00","metadata":{"k":"v","from":"x"},
            "signature":null,"intent":"debug"} "#,
    )
    .unwrap();
    let view = parsed.view();
    assert_eq!((view.from, view.to, view.intent), ("a", "b", "debug"));
    assert_eq!(view.content, "línea 1\nline 2 😀 \"q\" \\ /");
    assert_eq!(view.timestamp, "2026-02-22T11:00:00.5+01:00");
    assert_eq!(parsed.signature(), None);
}

#[test]
fn signatures_are_read_as_go_reads_them() {
    let encoded = base64::engine::general_purpose::STANDARD.encode([7u8; 64]);
    let (first, second) = encoded.split_at(40);
    let message = |signature: &str| {
        let body = format!(r#"{{"from":"a","to":"b","content":"c","signature":"{signature}"}}"#);
        parse(&body).unwrap().signature()
    };
    assert_eq!(message(&encoded), Some(Ok([7; 64])));
    assert_eq!(
        message(&format!("{first}\\r\\n{second}")),
        Some(Ok([7; 64]))
    );
    for bad in [
        "AAAA",
        "!",
        encoded.trim_end_matches('='),
        &format!("{encoded}{encoded}"),
    ] {
        assert_eq!(message(bad), Some(Err(())), "{bad}");
    }
}

#[test]
fn headers_of_ours_are_bounded() {
    let read = |headers| {
        let body = Bytes::from_static(br#"{"from":"a","to":"b","content":"c"}"#);
        ParsedMessage::parse(body, headers, Buffers::default(), &RandomState::new(), NOW)
    };
    let session = read(Headers {
        session: Some(b"s-1"),
        ..Headers::default()
    })
    .unwrap();
    assert_eq!(session.view().session, "s-1");
    let long = [b'x'; 129];
    let refused = read(Headers {
        session: Some(&long),
        ..Headers::default()
    });
    assert_eq!(refused.err(), Some(Reason::HeaderInvalid));
    let refused = read(Headers {
        key_version: Some(b"two"),
        ..Headers::default()
    });
    assert_eq!(refused.err(), Some(Reason::HeaderInvalid));
    assert_eq!(
        read(Headers {
            key_version: Some(b"2"),
            ..Headers::default()
        })
        .unwrap()
        .key_version,
        Some(2)
    );
}

proptest! {
    /// The slow obvious reader judges the fast one: whatever serde_json reads as three strings, we read the same.
    #[test]
    fn strings_read_as_serde_json_reads_them(content in "\\PC{1,60}", escaped in any::<bool>()) {
        let mut text = serde_json::to_string(&content).unwrap();
        if escaped {
            text = text.chars().map(|c| if c.is_ascii_alphabetic() && !text.contains('\\') {
                format!("\\u{:04x}", c as u32)
            } else {
                c.to_string()
            }).collect();
        }
        let body = format!(r#"{{"from":"a","to":"b","content":{text}}}"#);
        let expected: serde_json::Value = serde_json::from_str(&body).unwrap();
        let parsed = parse(&body).unwrap();
        prop_assert_eq!(parsed.view().content, expected["content"].as_str().unwrap());
    }

    #[test]
    fn what_serde_json_refuses_we_refuse(
        body in r#"\{"from":"a","to":"b","content":"c"(,"x":[\[\]{}0-9a-f.eE+\-",:tru nl\\]{0,12})?\}?"#,
    ) {
        if parse(&body).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = ParsedMessage::parse(
            Bytes::from(bytes), Headers::default(), Buffers::default(), &RandomState::new(), NOW,
        );
    }
}
