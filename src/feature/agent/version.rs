//! Versions of GitLab as it names itself: `18.9.0`, `17.5.0-pre`, `18.9.0-ee`.

/// Ordered as releases are: `-pre` and release candidates come before their release, editions change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
    is_release: bool,
}

impl Version {
    pub(super) const fn before(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0, is_release: false }
    }

    /// `None` for what does not begin with a number, a dot and a number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let (numbers, suffix) = text.split_once(['-', '+']).unwrap_or((text, ""));
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().flatten().unwrap_or(0);
        let is_release = !["pre", "rc", "alpha", "beta"].iter().any(|word| suffix.starts_with(word));
        Some(Self { major, minor, patch, is_release })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_as_releases_are_ordered() {
        let check = |left: &str, right: &str| {
            let (left_version, right_version) = (Version::parse(left), Version::parse(right));
            assert!(left_version.is_some() && left_version < right_version, "{left} comes before {right}");
        };
        check("17.4.9", "17.5.0-pre");
        check("17.5.0-pre", "17.5.0");
        check("17.5.0-rc42-ee", "17.5.0-ee");
        check("17.5.0", "17.5.1-pre");
        check("18.9.0-ee", "18.10.0-pre");
        assert_eq!(Version::parse("18.9.0-ee"), Version::parse("v18.9"));
        assert_eq!(Version::parse("17.5.0-pre+abc"), Some(Version::before(17, 5)));
        for unknown in ["", "master", "18", "18.x", "-1.2", "99999999999.1.0"] {
            assert_eq!(Version::parse(unknown), None, "{unknown}");
        }
    }
}
