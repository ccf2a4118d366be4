//! The calendar, for prompts that name the day.

/// The date of a moment in seconds since 1970, by the calendar of UTC: `October 05, 2026`.
///
/// Days to civil date as in Howard Hinnant's `chrono`-compatible algorithms: years begin in March, so that the leap day
/// is a year's last.
pub(super) fn today(unix_s: u64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let days = unix_s / 86_400 + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month_index = (march_month as usize + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month_index < 2);
    format!("{} {day:02}, {year}", MONTHS[month_index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_calendar() {
        for (unix_s, date) in [
            (0, "January 01, 1970"),
            (951_782_400, "February 29, 2000"),
            (951_868_800, "March 01, 2000"),
            (1_709_164_800, "February 29, 2024"),
            (1_735_689_599, "December 31, 2024"),
            (1_735_689_600, "January 01, 2025"),
            (1_791_158_400, "October 05, 2026"),
            (4_107_542_400, "March 01, 2100"),
        ] {
            assert_eq!(today(unix_s), date);
        }
    }
}
