//! Points in time as sshd(8) writes them in `expiry-time=`: `YYYYMMDD[HHMM[SS]]`, with `Z` or `UTC` behind it for UTC.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeZone};

/// Reads a point in time. Without `Z` it is in this server's time zone (`TZ`, else `/etc/localtime`). Where clocks
/// were put back and it came twice, the first one counts; where they were put forward and it never came, none does.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let upper = text.to_ascii_uppercase();
    let in_utc = upper.strip_suffix("UTC").or_else(|| upper.strip_suffix('Z'));
    let written = parse_digits(in_utc.unwrap_or(&upper))?;
    let seconds = match in_utc {
        Some(_) => written.and_utc().timestamp(),
        None => in_zone(&Local, &written)?.timestamp(),
    };
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok().filter(|at| *at > 0)?))
}

fn in_zone<Zone: TimeZone>(zone: &Zone, written: &NaiveDateTime) -> Option<DateTime<Zone>> {
    zone.from_local_datetime(written).earliest()
}

fn parse_digits(text: &str) -> Option<NaiveDateTime> {
    if !text.bytes().all(|digit| digit.is_ascii_digit()) || !matches!(text.len(), 8 | 12 | 14) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to.min(text.len())).unwrap_or("0").parse::<u32>();
    let year = text.get(..4)?.parse().ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(4, 6).ok()?, number(6, 8).ok()?)?;
    let (hour, minute) = if text.len() > 8 { (number(8, 10).ok()?, number(10, 12).ok()?) } else { (0, 0) };
    let second = if text.len() > 12 { number(12, 14).ok()? } else { 0 };
    date.and_hms_opt(hour, minute, second)
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        let at = parse(text)?;
        Some(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    /// A2
    #[test]
    fn times_in_utc_are_read_to_the_second() {
        assert_eq!(seconds("20240229Z"), Some(1_709_164_800));
        assert_eq!(seconds("202402291230z"), Some(1_709_209_800));
        assert_eq!(seconds("20240229123045UTC"), Some(1_709_209_845));
    }

    /// A2
    #[test]
    fn a_time_without_a_zone_is_the_servers() {
        let written = parse_digits("20240229").unwrap();
        let east = FixedOffset::east_opt(3600).unwrap();

        assert_eq!(in_zone(&east, &written).unwrap().timestamp(), 1_709_164_800 - 3600);
        assert_eq!(
            seconds("20240229"),
            in_zone(&Local, &written).map(|at| at.timestamp().try_into().unwrap())
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "Z",
            "2024",
            "20240230Z",
            "202402291",
            "202402292460Z",
            "20240229123060Z",
            "19700101Z",
            "19600101Z",
            "+2024021Z",
            "2024-02-29",
            "never",
            "20240229ZZ",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_us_fail(text: String, digits in "[0-9]{0,15}Z?") {
            parse(&text);
            parse(&digits);
        }
    }
}
