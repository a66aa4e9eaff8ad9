//! Ages for tables.

use jiff::Timestamp;

/// Whole days, hours, minutes or seconds since an RFC 3339 time; `-` when
/// unknown.
pub fn since(created_at: &str, now: Timestamp) -> String {
    let Ok(created) = created_at.parse::<Timestamp>() else {
        return "-".to_owned();
    };
    let seconds = now.duration_since(created).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_whole_unit() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().expect("time");
        for (created, age) in [
            ("2026-01-09T23:59:59.5Z", "0s"),
            ("2026-01-09T23:59:01Z", "59s"),
            ("2026-01-09T23:00:30Z", "59m"),
            ("2026-01-09T00:00:01Z", "23h"),
            ("2026-01-01T00:00:00Z", "9d"),
            ("2026-01-11T00:00:00Z", "0s"),
            ("", "-"),
        ] {
            assert_eq!(since(created, now), age, "{created}");
        }
    }
}
