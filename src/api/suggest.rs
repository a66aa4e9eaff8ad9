//! Did-you-mean.

/// The known word that is close enough to be what was meant.
pub fn closest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer than any word there is; the comparison is quadratic.
    if text.len() > 64 {
        return None;
    }
    let plain = |word: &str| -> String {
        word.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect()
    };
    let wanted = plain(text);
    let limit = (wanted.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&wanted, &plain(word)), *word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_slips_and_ignores_strangers() {
        let known = ["image", "imagePullPolicy", "args", "restartPolicy"];
        assert_eq!(closest("imagee", &known), Some("image"));
        assert_eq!(closest("restart_policy", &known), Some("restartPolicy"));
        assert_eq!(closest("arsg", &known), Some("args"));
        assert_eq!(closest("volumes", &known), None);
        assert_eq!(closest("", &known), None);
    }
}
