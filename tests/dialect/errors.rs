//! Bodies that say what went wrong.

use sconce::dialect::openai::{error_body, error_event};
use sconce::domain::{ErrorKind, GenerateError};

#[test]
fn a_body() {
    let check = |body: Vec<u8>, expected: &str| assert_eq!(String::from_utf8_lossy(&body), expected);
    check(
        error_body(ErrorKind::Invalid, "n is 0", Some("n"), Some("invalid_value")),
        r#"{"error":{"message":"n is 0","type":"invalid_request_error","param":"n","code":"invalid_value"}}"#,
    );
    check(
        error_body(ErrorKind::Internal, "\"", None, None),
        r#"{"error":{"message":"\"","type":"server_error","param":null,"code":null}}"#,
    );
}

#[test]
fn the_end_of_a_stream_that_broke() {
    let mut out = Vec::new();
    error_event(&GenerateError::Superseded, &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out),
        concat!(
            r#"data: {"error":{"message":"a newer request of the same session took the place of this one","#,
            r#""type":"conflict_error","param":null,"code":"superseded"}}"#,
            "\n\n",
        )
    );
}
