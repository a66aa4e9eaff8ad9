//! Amounts: Kubernetes quantities, compose sizes and durations.

/// Bytes as a quantity (`resource.Quantity`, canonical form with binary suffixes).
pub(super) fn bytes_text(bytes: u64) -> String {
    const UNITS: [(&str, u32); 6] = [
        ("Ei", 60),
        ("Pi", 50),
        ("Ti", 40),
        ("Gi", 30),
        ("Mi", 20),
        ("Ki", 10),
    ];
    for (unit, shift) in UNITS {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// A quantity in thousandths; none when it is not one or too large.
fn milli(text: &str) -> Option<i128> {
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (factor, divisor): (i128, i128) = match unit {
        "" => (1, 1),
        "m" => (1, 1000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10_i128.checked_pow(power.min(18))?, 1)
        }
    };
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 12 || whole.len() > 20 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let value = digits.checked_mul(factor)?.checked_mul(1000)?;
    let below = scale * divisor;
    // A rest below a thousandth is rounded up, as Kubernetes does.
    Some(value.div_euclid(below) + i128::from(value.rem_euclid(below) != 0))
}

/// Whole bytes of a quantity.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let milli = milli(text)?;
    u64::try_from(milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) != 0)).ok()
}

/// Thousandths of a CPU of a quantity.
pub(super) fn milli_cpu(text: &str) -> Option<u64> {
    u64::try_from(milli(text)?).ok()
}

/// CPU request for a weight: 1024 shares are one CPU, rounded up to the next
/// thousandth, which is the finest that Kubernetes takes.
pub(super) fn shares_to_milli(shares: u64) -> u64 {
    shares.saturating_mul(1000).div_ceil(1024)
}

/// Weight of a CPU request, as the kubelet computes it (`MilliCPUToShares`).
pub(super) fn milli_to_shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

/// Bytes of a compose size such as `64m`, `1.5gb` or `1024`; units are binary.
pub(super) fn compose_bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let split = lower
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(1 << shift),
        Some(_) => {
            let number: f64 = number.parse().ok()?;
            let bytes =
                number * f64::from(1_u32 << (shift / 2)) * f64::from(1_u32 << (shift - shift / 2));
            // Sizes that a machine can have are exact in a float.
            (bytes < 9e15).then_some(bytes as u64)
        }
    }
}

/// Whole seconds of a compose duration such as `1m30s`; a rest is rounded up.
pub(super) fn compose_seconds(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut millis: f64 = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        let (factor, unit) = [
            ("us", 0.001),
            ("ms", 1.0),
            ("s", 1e3),
            ("m", 6e4),
            ("h", 3.6e6),
            ("d", 8.64e7),
        ]
        .into_iter()
        .find_map(|(unit, factor)| rest[end..].starts_with(unit).then_some((factor, unit)))?;
        millis += number * factor;
        rest = &rest[end + unit.len()..];
    }
    (millis < 1e12).then_some((millis / 1000.0).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities() {
        for (text, expected) in [
            ("64Mi", Some(67_108_864)),
            ("1G", Some(1_000_000_000)),
            ("1.5Gi", Some(1_610_612_736)),
            ("128974848", Some(128_974_848)),
            ("129e6", Some(129_000_000)),
            ("500m", Some(1)),
            ("64MB", None),
            ("", None),
            ("-1", None),
            ("x", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(milli_cpu("250m"), Some(250));
        assert_eq!(milli_cpu("0.1"), Some(100));
        assert_eq!(milli_cpu("2"), Some(2000));
        assert_eq!(bytes_text(67_108_864), "64Mi");
        assert_eq!(bytes_text(1000), "1000");
        assert_eq!(bytes_text(0), "0");
    }

    #[test]
    fn compose_sizes_and_durations() {
        assert_eq!(compose_bytes("64m"), Some(64 << 20));
        assert_eq!(compose_bytes("1.5gb"), Some(3 << 29));
        assert_eq!(compose_bytes("1024"), Some(1024));
        assert_eq!(compose_bytes("1 q"), None);
        assert_eq!(compose_seconds("1m30s"), Some(90));
        assert_eq!(compose_seconds("500ms"), Some(1));
        assert_eq!(compose_seconds("1h"), Some(3600));
        assert_eq!(compose_seconds("10"), None);
    }

    proptest! {
        #[test]
        fn bytes_come_back(n in 0_u64..(1 << 60)) {
            prop_assert_eq!(bytes(&bytes_text(n)), Some(n));
        }

        #[test]
        fn a_request_gives_its_weight_and_back(m in 2_u64..256_000) {
            prop_assert_eq!(shares_to_milli(milli_to_shares(m)), m);
        }
    }
}
