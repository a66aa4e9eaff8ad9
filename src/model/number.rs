//! A JSON number kept as it was written.

use std::cmp::Ordering;
use std::fmt;

use thiserror::Error;

/// A finite JSON number (RFC 8259 section 6) as exact decimal text: no digit is
/// lost, whatever its size. Equality is numeric: `1.50` equals `15e-1`.
#[derive(Clone)]
pub struct Number(Box<str>);

/// Why a number is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NumberError {
    /// Not spelled as JSON spells numbers.
    #[error("{0:?} is not a JSON number")]
    NotJson(String),
    /// Too large for a double, infinite or not a number.
    #[error("the number {0} is out of range; write it as text")]
    Range(String),
    /// No double prints as this number, so readers would see another one.
    #[error("the number {0} has more digits than a double holds; write it as text")]
    Inexact(String),
}

impl Number {
    /// A number from JSON text. Refused: other spellings (`+1`, `01`, `.5`,
    /// `0x1f`), and what lies beyond the range of a double (`1e999`).
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        if parts(text).is_none() {
            return Err(NumberError::NotJson(text.to_owned()));
        }
        match text.parse::<f64>() {
            Ok(double) if double.is_finite() => Ok(Self(text.into())),
            _ => Err(NumberError::Range(text.to_owned())),
        }
    }

    /// A number from a double; infinities and NaN are refused. `2.0` stays
    /// distinguishable from `2` in its text.
    pub fn from_f64(double: f64) -> Result<Self, NumberError> {
        match double.is_finite() {
            true => Ok(Self(format!("{double:?}").into())),
            false => Err(NumberError::Range(double.to_string())),
        }
    }

    /// The number as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its value where it was written as a whole number that fits.
    pub fn as_i128(&self) -> Option<i128> {
        self.0.parse().ok()
    }

    /// Its value where it was written as a whole number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The nearest double.
    pub fn as_f64(&self) -> f64 {
        // JSON numbers are a part of what `f64` reads.
        self.0.parse().unwrap_or(0.0)
    }

    /// Whether it was written without fraction and exponent.
    pub fn is_whole(&self) -> bool {
        !self.0.contains(['.', 'e', 'E'])
    }

    /// The number as ECMAScript prints it (RFC 8785 section 3.2.2.3). Refused
    /// where that is another number.
    pub fn to_ecmascript(&self) -> Result<String, NumberError> {
        let text = ecmascript(self.as_f64());
        match parts(&text) == parts(&self.0) {
            true => Ok(text),
            false => Err(NumberError::Inexact(self.0.to_string())),
        }
    }
}

/// `Number::toString` of ECMA-262 for a finite double.
fn ecmascript(double: f64) -> String {
    if double == 0.0 {
        return "0".to_owned();
    }
    let shortest = format!("{:e}", double.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (count, point) = (digits.len() as i32, exponent + 1);
    let zeros = |n: i32| "0".repeat(n.max(0) as usize);
    let body = if count <= point && point <= 21 {
        format!("{digits}{}", zeros(point - count))
    } else if 0 < point && point <= 21 {
        let (whole, rest) = digits.split_at(point as usize);
        format!("{whole}.{rest}")
    } else if -6 < point && point <= 0 {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{first}{dot}{rest}e{exponent:+}")
    };
    match double < 0.0 {
        true => format!("-{body}"),
        false => body,
    }
}

/// Sign, significant digits and the power of ten behind the last of them: the
/// same for two spellings of one number. `None` for what is no JSON number.
fn parts(text: &str) -> Option<(bool, String, i64)> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    if fraction.is_some_and(|fraction| !digits(fraction)) {
        return None;
    }
    let mut power = 0_i64;
    if let Some(exponent) = exponent {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if !digits(unsigned) {
            return None;
        }
        // Beyond any double either way; the range check has the last word.
        power = exponent.parse().unwrap_or(match exponent.starts_with('-') {
            true => -1_000_000_000,
            false => 1_000_000_000,
        });
    }
    let fraction = fraction.unwrap_or_default();
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let kept = significant.trim_end_matches('0');
    if kept.is_empty() {
        return Some((false, String::new(), 0));
    }
    power = power
        .saturating_sub(fraction.len() as i64)
        .saturating_add((significant.len() - kept.len()) as i64);
    Some((negative, kept.to_owned(), power))
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || parts(&self.0) == parts(&other.0)
    }
}

impl Eq for Number {}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! whole {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Number {
            fn from(number: $kind) -> Self {
                Self(number.to_string().into())
            }
        }
    )*};
}

whole!(i32, i64, i128, u16, u32, u64, u128, usize);

impl PartialOrd for Number {
    /// By the nearest doubles where the texts differ.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self == other {
            true => Some(Ordering::Equal),
            false => self.as_f64().partial_cmp(&other.as_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number() {
        for text in [
            "0",
            "-0",
            "1.50",
            "1e3",
            "1E-07",
            "123456789012345678901234567890",
        ] {
            assert_eq!(Number::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "", "-", "+1", "01", "1.", ".5", "0x1f", "1e", "1_0", "NaN", "inf", " 1",
        ] {
            assert!(
                matches!(Number::parse(text), Err(NumberError::NotJson(_))),
                "{text:?}"
            );
        }
        assert!(matches!(Number::parse("1e999"), Err(NumberError::Range(_))));
        assert!(Number::from_f64(f64::NAN).is_err());
    }

    #[test]
    fn equality_is_numeric_and_exact() {
        let same = [
            ("1.50", "15e-1"),
            ("0", "-0.0"),
            ("1000", "1e3"),
            ("2.0", "2"),
        ];
        for (a, b) in same {
            assert_eq!(Number::parse(a).unwrap(), Number::parse(b).unwrap());
        }
        let other = [
            ("9007199254740993", "9007199254740992"),
            ("1", "-1"),
            ("1", "10"),
        ];
        for (a, b) in other {
            assert_ne!(Number::parse(a).unwrap(), Number::parse(b).unwrap());
        }
    }

    // Samples of RFC 8785 appendix B.
    #[test]
    fn numbers_print_as_ecmascript_prints_them() {
        let samples = [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        ];
        for (bits, text) in samples {
            let double = f64::from_bits(bits);
            assert_eq!(ecmascript(double), text, "{bits:x}");
            assert_eq!(
                Number::from_f64(double).unwrap().to_ecmascript().unwrap(),
                text
            );
        }
        let inexact = Number::parse("9007199254740993").unwrap();
        assert!(matches!(
            inexact.to_ecmascript(),
            Err(NumberError::Inexact(_))
        ));
    }
}
