//! When a provider wants to be asked again, in every form it says so.

use std::time::{Duration, SystemTime};

/// More is nonsense, or a bill that nobody paid.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the wait from the headers of a refusal: `retry-after-ms`, `x-amz-retry-after` (milliseconds too), then
/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3). A date is compared with the other side's own clock
/// where it shows one. What is negative or no number is no answer.
pub fn retry_after<'a>(header: impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Duration> {
    let milliseconds = |name| seconds(header(name)?).map(|seconds| seconds / 1000.0);
    let wait = milliseconds("retry-after-ms").or_else(|| milliseconds("x-amz-retry-after"));
    if let Some(wait_s) = wait {
        return Some(bounded(wait_s));
    }
    let text = header("retry-after")?.trim();
    if let Some(wait_s) = seconds(text) {
        return Some(bounded(wait_s));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let theirs = header("date").and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    let wait = at.duration_since(theirs.unwrap_or(now)).unwrap_or_default();
    Some(wait.min(LONGEST))
}

/// A number that is not negative.
fn seconds(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

fn bounded(wait_s: f64) -> Duration {
    Duration::try_from_secs_f64(wait_s).map_or(LONGEST, |wait| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], expected_ms: Option<u128>) {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 06:00:00 GMT").expect("a date");
        let header = |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        assert_eq!(retry_after(header, now).map(|wait| wait.as_millis()), expected_ms, "{headers:?}");
    }

    #[test]
    fn every_form_is_read() {
        let day = Some(24 * 60 * 60 * 1000);
        check(&[], None);
        check(&[("retry-after", "7")], Some(7_000));
        check(&[("retry-after", " 0 ")], Some(0));
        check(&[("retry-after", "1.5")], Some(1_500));
        check(&[("retry-after", "-1")], None);
        check(&[("retry-after", "1000000000")], day);
        check(&[("retry-after", "1e400")], None);
        check(&[("retry-after", "NaN")], None);
        check(&[("retry-after", "soon")], None);
        check(&[("retry-after", "")], None);
        check(&[("retry-after-ms", "250"), ("retry-after", "7")], Some(250));
        check(&[("retry-after-ms", "-1"), ("retry-after", "7")], Some(7_000));
        check(&[("x-amz-retry-after", "1200")], Some(1_200));
        check(&[("retry-after", "Sun, 22 Nov 2026 06:00:30 GMT")], Some(30_000));
        check(&[("retry-after", "Sun, 22 Nov 2026 05:00:00 GMT")], Some(0));
        check(&[("retry-after", "Sun, 22 Nov 2099 05:00:00 GMT")], day);
        check(
            &[("retry-after", "Sun, 22 Nov 2026 07:00:30 GMT"), ("date", "Sun, 22 Nov 2026 07:00:00 GMT")],
            Some(30_000),
        );
    }
}
