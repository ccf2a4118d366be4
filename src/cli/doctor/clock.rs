//! Compares this machine's clock with the `Date` of an answer. Tokens are good for a short time, so clocks that differ
//! make good tokens look expired, or not yet valid.

use super::report::{fail, ok, warn};
use crate::auth::gitlab::Check;
use std::time::{Duration, SystemTime};

/// More is worth a look.
const NOTICED: Duration = Duration::from_secs(5);
/// What the check of tokens forgives.
const LEEWAY: Duration = Duration::from_secs(30);

/// `date` is the header as it came.
pub fn compare(date: Option<&str>, now: SystemTime) -> Check {
    const NAME: &str = "clock";
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return warn(NAME, "the answer tells no time", "compare the clocks of both machines with `date -u`");
    };
    let (apart, which) = match now.duration_since(theirs) {
        Ok(apart) => (apart, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let found = format!("{} s {which} that of GitLab", apart.as_secs());
    let next_step = "set the clocks of both machines by NTP";
    match apart {
        apart if apart <= NOTICED => ok(NAME, found),
        apart if apart <= LEEWAY => warn(NAME, found, next_step),
        _ => fail(NAME, format!("{found}, {} s are forgiven", LEEWAY.as_secs()), next_step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::gitlab::Verdict;

    #[test]
    fn small_differences_are_forgiven() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_309_200); // 2026-11-22 01:00:00
        for (date, verdict, part) in [
            (Some("Sun, 22 Nov 2026 01:00:00 GMT"), Verdict::Ok, "0 s"),
            (Some("Sun, 22 Nov 2026 01:00:05 GMT"), Verdict::Ok, "5 s behind"),
            (Some("Sun, 22 Nov 2026 00:59:40 GMT"), Verdict::Warn, "20 s ahead of"),
            (Some("Sun, 22 Nov 2026 01:10:00 GMT"), Verdict::Fail, "600 s behind"),
            (Some("soon"), Verdict::Warn, "tells no time"),
            (None, Verdict::Warn, "tells no time"),
        ] {
            let check = compare(date, now);
            assert!(check.verdict == verdict && check.found.contains(part), "{date:?}: {check:?}");
        }
    }
}
