//! What leaves the process: which certificates are believed, which hosts are called, how much is read, and what an
//! administrator is told when it fails.

mod bounds;
mod certificates;
mod proxies;
mod relays;
mod servers;
mod streams;

use sconce::egress::{Egress, EgressError, EgressSettings};

fn egress(settings: EgressSettings) -> Egress {
    Egress::new(&settings).expect("settings that can be used")
}

/// May call `url`, and nothing else.
fn only(url: &str) -> EgressSettings {
    EgressSettings { allowed: vec![url.to_owned()], ..EgressSettings::default() }
}

/// The message and the next step, both of which must be there for a person.
#[track_caller]
fn check(error: &EgressError, parts: &[&str]) {
    let text = format!("{error}\n{}", error.next_step());
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing from: {text}");
    }
    assert!(!text.contains("sesame"), "shows a secret: {text}");
}
