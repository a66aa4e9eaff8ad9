//! What a scalar is: how a plain one reads, and which text may be written plain.

use crate::model::{Number, Value};

/// What becomes of whole numbers with a leading zero (`0644`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Octal {
    /// They are octal, as for every Kubernetes tool.
    Read,
    /// They are refused: readers disagree.
    #[default]
    Refuse,
}

/// What a plain scalar means by the core schema of YAML 1.2 (section 10.3.2).
///
/// # Errors
/// Why it cannot be read: a number that JSON does not know, or an octal one
/// that is refused.
pub fn resolve(text: &str, octal: Octal) -> Result<Value, String> {
    if is_null(text) {
        return Ok(Value::Null);
    }
    if let Some(truth) = truth(text) {
        return Ok(Value::Bool(truth));
    }
    // Everything else that is not text begins with one of these.
    if !text.starts_with(|c: char| matches!(c, '+' | '-' | '.' | '0'..='9')) {
        return Ok(text.into());
    }
    match number(text, octal)? {
        Some(number) => Ok(Value::Number(number)),
        None => Ok(text.into()),
    }
}

/// Whether a plain scalar is null.
pub fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// What a plain scalar says, where that is true or false.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The number that a plain scalar is; `None` where it is text.
///
/// # Errors
/// As [`resolve`].
pub fn number(text: &str, octal: Octal) -> Result<Option<Number>, String> {
    let based = |digits: &str, radix| {
        let valid = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        valid.then(|| u128::from_str_radix(digits, radix))
    };
    let radix = text.strip_prefix("0x").map(|digits| based(digits, 16));
    let radix = radix.or_else(|| text.strip_prefix("0o").map(|digits| based(digits, 8)));
    if let Some(read) = radix {
        return match read {
            None => Ok(None),
            Some(Ok(whole)) => Ok(Some(whole.into())),
            Some(Err(_)) => Err(format!("the number {text} is too large; quote it")),
        };
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if matches!(rest, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("{text} is no number that JSON knows; quote it"));
    }
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !rest.is_empty() && digits(rest) {
        return whole(text, sign, rest, octal).map(Some);
    }
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let (before, after) = match mantissa.split_once('.') {
        Some((before, after)) => (before, Some(after)),
        None => (mantissa, None),
    };
    let unsigned = exponent.map(|e| e.strip_prefix(['+', '-']).unwrap_or(e));
    let fits = digits(before)
        && after.is_none_or(digits)
        && unsigned.is_none_or(|e| !e.is_empty() && digits(e))
        && !(before.is_empty() && after.is_none_or(str::is_empty));
    if !fits {
        return Ok(None);
    }
    let before = match before.trim_start_matches('0') {
        "" => "0",
        before => before,
    };
    let after = match after {
        None => String::new(),
        Some("") => ".0".to_owned(),
        Some(after) => format!(".{after}"),
    };
    let exponent = exponent.map(|e| format!("e{e}")).unwrap_or_default();
    let json = format!("{sign}{before}{after}{exponent}");
    match Number::parse(&json) {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(format!("the number {text} is out of range; quote it")),
    }
}

/// Digits alone. A leading zero means octal to YAML 1.1 and nothing to 1.2.
fn whole(text: &str, sign: &str, digits: &str, octal: Octal) -> Result<Number, String> {
    let trimmed = digits.trim_start_matches('0');
    if trimmed.is_empty() && digits.len() == 1 {
        return Ok(Number::from(0));
    }
    if trimmed.len() == digits.len() {
        return Number::parse(&format!("{sign}{digits}"))
            .map_err(|_| format!("the number {text} is out of range; quote it"));
    }
    let read = i128::from_str_radix(&format!("{sign}{digits}"), 8);
    match (octal, read) {
        (Octal::Read, Ok(number)) => Ok(number.into()),
        (_, Ok(number)) => Err(format!(
            "{text} is {number} to some readers and {sign}{trimmed} to others; \
             write {sign}0o{trimmed}, {sign}{trimmed} or {text:?}"
        )),
        (_, Err(_)) => Err(format!(
            "{text} is a number to some readers and text to others; \
             write {sign}{trimmed} or {text:?}"
        )),
    }
}

/// Whether a reader of YAML 1.1 or 1.2 could take this plain text for something
/// other than text. Errs on the side of quotes.
pub fn is_retyped(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "y", "n", "yes", "no", "true", "false", "on", "off", "null", "~",
    ];
    if text.is_empty() || WORDS.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        return true;
    }
    // The value and the merge key of YAML 1.1.
    if matches!(text, "=" | "<<") {
        return true;
    }
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !rest.starts_with(|c: char| c == '.' || c.is_ascii_digit()) {
        return false;
    }
    let lower = rest.to_ascii_lowercase();
    if matches!(&*lower, ".inf" | ".nan") {
        return true;
    }
    let all = |allowed: fn(char) -> bool| lower.chars().all(allowed);
    // Whole numbers, base 60 and fractions of it, all with underscores.
    if all(|c| c.is_ascii_digit() || matches!(c, '_' | ':')) {
        return true;
    }
    if lower.contains(':') && all(|c| c.is_ascii_digit() || matches!(c, '_' | ':' | '.')) {
        return true;
    }
    let based = ["0x", "0o", "0b"]
        .iter()
        .any(|base| lower.starts_with(base));
    if based
        && lower[2..]
            .chars()
            .all(|c| c.is_ascii_hexdigit() || c == '_')
    {
        return true;
    }
    // Dates and times.
    let bytes = lower.as_bytes();
    if bytes.len() >= 6 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' {
        return true;
    }
    let plain = lower.replace('_', "");
    plain.parse::<f64>().is_ok() || plain == "."
}
