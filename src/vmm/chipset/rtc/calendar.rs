//! Civil dates, by the proleptic Gregorian calendar.

const DAY_SECONDS: i64 = 86_400;
/// Days of 400 years, and of the time from 0000-03-01 to 1970-01-01.
const ERA_DAYS: i64 = 146_097;
const EPOCH_DAYS: i64 = 719_468;

/// A date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: i64,
    /// 1 to 31.
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl Civil {
    /// From seconds since 1970.
    pub(super) fn from_unix(seconds: i64) -> Self {
        let (days, time) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        let shifted = days + EPOCH_DAYS;
        let (era, day_of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months counted from March, so that the leap day is the last of the year.
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }

    /// Seconds since 1970. Fields beyond their range count on into the next larger one, a 31st of June is a 1st of July;
    /// none may be so large that years of them do not fit.
    pub(super) fn to_unix(self) -> i64 {
        let months = self.year * 12 + self.month - 1;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        let (year, from_march) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * from_march + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
        days * DAY_SECONDS + self.hour * 3600 + self.minute * 60 + self.second
    }
}

/// The day of the week of a moment in seconds since 1970; 0 is Sunday.
pub(super) fn weekday(seconds: i64) -> i64 {
    (seconds.div_euclid(DAY_SECONDS) + 4).rem_euclid(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_follow_the_gregorian_calendar() {
        let date = |seconds| {
            let civil = Civil::from_unix(seconds);
            (civil.year, civil.month, civil.day, weekday(seconds))
        };
        assert_eq!(date(0), (1970, 1, 1, 4));
        assert_eq!(date(-1), (1969, 12, 31, 3));
        assert_eq!(date(951_782_400), (2000, 2, 29, 2));
        assert_eq!(date(4_107_542_400), (2100, 3, 1, 1), "2100 is no leap year");
        assert_eq!(date(253_402_300_799), (9999, 12, 31, 5));
    }

    #[test]
    fn days_that_a_month_does_not_have_are_of_the_next_one() {
        let seconds = Civil { year: 2023, month: 2, day: 31, hour: 0, minute: 0, second: 0 }.to_unix();
        let civil = Civil::from_unix(seconds);
        assert_eq!((civil.month, civil.day), (3, 3));
    }

    proptest! {
        #[test]
        fn both_directions_agree(seconds in -62_000_000_000i64..260_000_000_000) {
            prop_assert_eq!(Civil::from_unix(seconds).to_unix(), seconds);
        }
    }
}
