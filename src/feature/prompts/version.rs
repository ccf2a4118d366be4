//! Version constraints as Poetry writes them (python-poetry.org/docs/dependency-specification). GitLab pins versions of
//! prompts; there is one of each here, so a constraint is checked for its form and then satisfied.

/// Why a text is no version constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid version constraint: {problem}, allowed are forms such as ^1.0.0, ~1.2, >=1.0.0,<2.0.0 or 1.2.0")]
pub struct VersionError {
    problem: &'static str,
}

const CONSTRAINT_CHARS_MAX: usize = 128;
const OPERATORS: &[&str] = &["^", "~=", "~", "===", "==", "!=", ">=", "<=", ">", "<", "="];

/// Whether `constraint` has the form of one.
pub fn check_version(constraint: &str) -> Result<(), VersionError> {
    if constraint.chars().count() > CONSTRAINT_CHARS_MAX {
        return Err(VersionError { problem: "longer than 128 characters" });
    }
    if constraint.trim().is_empty() {
        return Err(VersionError { problem: "empty" });
    }
    for alternative in constraint.split("||").flat_map(|part| part.split(" | ")) {
        let mut is_empty = true;
        for part in conditions(alternative) {
            is_empty = false;
            check_condition(&part)?;
        }
        if is_empty {
            return Err(VersionError { problem: "an alternative is empty" });
        }
    }
    Ok(())
}

/// Parts joined by commas or spaces. An operator may stand apart from its version; nothing may stand between two
/// commas.
fn conditions(alternative: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for group in alternative.trim().trim_end_matches(',').split(',') {
        let mut words = group.split_whitespace().peekable();
        if words.peek().is_none() {
            parts.push(String::new());
        }
        while let Some(word) = words.next() {
            match OPERATORS.contains(&word) {
                true => parts.push(format!("{word}{}", words.next().unwrap_or_default())),
                false => parts.push(word.to_owned()),
            }
        }
    }
    parts
}

fn check_condition(condition: &str) -> Result<(), VersionError> {
    let operator = OPERATORS.iter().find(|operator| condition.starts_with(**operator)).copied().unwrap_or_default();
    let version = &condition[operator.len()..];
    let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
    if version == "*" && operator.is_empty() {
        return Ok(());
    }
    let (version, local) = version.split_once('+').map_or((version, None), |(version, local)| (version, Some(local)));
    if local.is_some_and(|local| !is_words(local)) {
        return Err(VersionError { problem: "the part behind + is not made of letters and digits" });
    }
    let digits_end = version.find(|char: char| !(char.is_ascii_digit() || char == '.')).unwrap_or(version.len());
    let (mut release, mut rest) = version.split_at(digits_end);
    let takes_wildcard = matches!(operator, "" | "=" | "==" | "!=");
    if takes_wildcard && matches!(rest, "*" | "x" | "X") && release.ends_with('.') {
        release = &release[..release.len() - 1];
        rest = "";
    } else if release.ends_with('.') && rest.starts_with(|char: char| char.is_ascii_alphabetic()) {
        // `1.0.dev1`
        release = &release[..release.len() - 1];
    }
    let numbers: Vec<&str> = release.split('.').collect();
    let is_release = numbers.len() <= 4 && numbers.iter().all(|number| (1..=9).contains(&number.len()));
    if !is_release {
        return Err(VersionError { problem: "a version is not numbers joined by points" });
    }
    let suffix = rest.trim_start_matches(['-', '.', '_']);
    if !rest.is_empty() && !is_words(suffix) {
        return Err(VersionError { problem: "a version ends in something that is not a pre-release" });
    }
    Ok(())
}

fn is_words(text: &str) -> bool {
    text.split(['.', '-', '_']).all(|word| !word.is_empty() && word.chars().all(|char| char.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_poetry_is_accepted() {
        for constraint in [
            "^1.0.0",
            "^1.0",
            "^1",
            "~1.2.3",
            "~1",
            "~=1.4",
            "1.2.0",
            "=1.2.0",
            "==1.2.0",
            "===1.2.0",
            "!=1.2.0",
            "*",
            "1.*",
            "1.2.*",
            "1.x",
            ">=1.0.0,<2.0.0",
            ">=1.0.0, <2.0.0",
            ">= 1.0.0 < 2.0.0",
            "^1.0 || ^2.0",
            "1.0.0-dev",
            "1.0.0-alpha.1",
            "2.0.0rc1",
            "1.0.dev1",
            "v1.0.0",
            "1.0.0+build.5",
            " ^2.0.1 ",
            "^1.0.0,",
        ] {
            assert_eq!(check_version(constraint), Ok(()), "{constraint}");
        }
    }

    #[test]
    fn what_has_no_form_is_refused() {
        for constraint in [
            "",
            "  ",
            "latest",
            "^",
            "^^1.0",
            ">=",
            "1..2",
            "1.",
            ".1",
            "1.0.0-",
            "1,,2",
            "^1.0 ||",
            "a.b.c",
            "^1.*",
            "1.0.0;rm",
            "1.2.3.4.5",
            "1234567890.0",
            "１.0",
            "1.0.0+",
            "{{ 1 }}",
            "../1.0.0",
        ] {
            assert!(check_version(constraint).is_err(), "{constraint}");
        }
        assert!(check_version(&"1".repeat(1_000_000)).is_err());
    }
}
