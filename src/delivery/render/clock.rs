//! Finding out whether a chart's output depends on the time. No process can be
//! given another wall clock, so the second of the two runs gets templates in
//! which the clock's functions give another time, and random ones another
//! number: only output that really depends on them differs, not templates that
//! merely mention them.

use super::actions::{self, Rules};

/// What stands for `now` in the second run. Raw quotes: the text may stand
/// within others.
const NOW: &str = "(toDate `2006-01-02` `1999-12-31`)";

/// Functions that never give the same in the second run. What they give has the
/// type that the template goes on with.
const OTHER: &[(&str, &str)] = &[
    ("now", NOW),
    // They give the time that passed.
    ("ago", "printf `long before %v`"),
    // Few digits may come twice by chance.
    ("randInt", "add 987654321"),
    ("randAlphaNum", "printf `random %v`"),
    ("randAlpha", "printf `random %v`"),
    ("randAscii", "printf `random %v`"),
    ("randNumeric", "printf `random %v`"),
    ("randBytes", "printf `random %v`"),
    ("shuffle", "printf `shuffled %v`"),
];

/// Functions that ask for the time where their argument is of a type they do not
/// know, and `tpl`, whose text may be put together only when it runs. In the
/// second run [`HELPER`] looks at what they are given.
const ASKING: &[&str] = &[
    "date",
    "dateInZone",
    "date_in_zone",
    "htmlDate",
    "htmlDateInZone",
    "durationRound",
    "tpl",
];

/// Where [`HELPER`] is put.
pub(super) const HELPER_FILE: &str = "templates/_kukeon-clock.tpl";

/// What the second run calls instead of the functions in [`ASKING`], with a list
/// of their name and their arguments. Text that was put together is not shifted:
/// it may not name a function of the clock at all, but in comments. Those are
/// taken out first; actions are kept as they are, so that a text in one that
/// looks like a comment hides nothing.
pub(super) const HELPER: &str = r#"{{- define "kukeon.clock" -}}
{{- $name := index . 0 -}}
{{- $one := index . 1 -}}
{{- $times := list "time.Time" "*time.Time" "int64" "int" "int32" -}}
{{- if eq $name "tpl" -}}
{{- $bare := regexReplaceAll "(?s)\\{\\{(?:-\\s)?/\\*.*?\\*/(?:\\s-)?\\}\\}|(\\{\\{(?:[^}\"`']|\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|'(?:[^'\\\\]|\\\\.)*')*\\}\\})" $one "${1}" -}}
{{- if regexMatch "\\{\\{(?:(?:[^}\"`]|\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|'(?:[^'\\\\]|\\\\.)*')*?[^.$\\w\"`}])?(?:now|ago|date|dateInZone|date_in_zone|htmlDate|htmlDateInZone|durationRound|tpl|rand[A-Z]\\w*|shuffle)\\b" $bare -}}
asks for the time
{{- else -}}
{{- tpl $one (index . 2) -}}
{{- end -}}
{{- else if eq $name "durationRound" -}}
{{- if typeIs "time.Time" $one -}}
asks for the time
{{- else -}}
{{- durationRound $one -}}
{{- end -}}
{{- else if eq $name "htmlDate" -}}
{{- if has (printf "%T" $one) $times -}}
{{- htmlDate $one -}}
{{- else -}}
asks for the time
{{- end -}}
{{- else if eq $name "htmlDateInZone" -}}
{{- if has (printf "%T" $one) $times -}}
{{- htmlDateInZone $one (index . 2) -}}
{{- else -}}
asks for the time
{{- end -}}
{{- else if not (has (printf "%T" (index . 2)) $times) -}}
asks for the time
{{- else if eq $name "date" -}}
{{- date $one (index . 2) -}}
{{- else -}}
{{- dateInZone $one (index . 2) (index . 3) -}}
{{- end -}}
{{- end -}}
"#;

const RULES: Rules = Rules {
    other: OTHER,
    asking: ASKING,
    call: " | include `kukeon.clock`",
};

/// A template at another time. `None` where it does not ask for the time.
pub(super) fn shifted(text: &str) -> Option<String> {
    actions::replaced(text, &RULES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER_NOW: &str = "(toDate `2006-01-02` `1999-12-31`)";

    #[test]
    fn only_the_functions_are_replaced() {
        for text in [
            "",
            "now",
            "{{ .now }}",
            "{{ $now := 1 }}",
            "{{ \"now\" }}",
            "{{ `now\n}} now` }}",
            "{{ known }}",
            "{{ /* now */ x }}{{ y }}now",
            "{{- /* don't (tpl | date }} */ -}}{{/* now */}}",
            "{{ .Values.x.now | quote }}",
            "{{",
            "{{ \"\\\" now\" }}",
            "{{ .date.tpl | quote }}",
            "{{ printf \\\"now\\\" }}",
        ] {
            assert_eq!(shifted(text), None, "{text:?}");
        }
        let cases = [
            ("a {{ now }} b", "a {{ NOW }} b"),
            ("{{ .x | ago }}", "{{ .x | printf `long before %v` }}"),
            ("é{{ (now).Unix }}", "é{{ (NOW).Unix }}"),
            // As it stands in values.
            (
                "\"{{ printf \\\"a\\\\\\\"b\\\" now }}\"",
                "\"{{ printf \\\"a\\\\\\\"b\\\" NOW }}\"",
            ),
            ("{{ randInt 0 2 }}", "{{ add 987654321 0 2 }}"),
        ];
        for (text, wanted) in cases {
            let wanted = wanted.replace("NOW", OTHER_NOW);
            assert_eq!(shifted(text), Some(wanted));
        }
    }

    #[test]
    fn what_may_ask_for_the_time_is_looked_at() {
        let cases = [
            ("{{now|date \"now\"}}", "{{NOW|list `date` \"now\" | CALL}}"),
            (
                "{{- date \"x\" .y -}}",
                "{{- list `date` \"x\" .y | CALL -}}",
            ),
            (
                "{{ (tpl .a (dict \"x\" (htmlDate .y)) | quote) }}",
                "{{ (list `tpl` .a (dict \"x\" (list `htmlDate` .y | CALL))  | CALL| quote) }}",
            ),
            (
                "{{ if eq (.x | durationRound) \"1d\" }}",
                "{{ if eq (.x | list `durationRound` | CALL) \"1d\" }}",
            ),
            (
                "\"{{ .t | date \\\"2006\\\" }}\"",
                "\"{{ .t | list `date` \\\"2006\\\" | CALL }}\"",
            ),
        ];
        for (text, wanted) in cases {
            let wanted = wanted
                .replace("NOW", OTHER_NOW)
                .replace("CALL", "include `kukeon.clock`");
            assert_eq!(shifted(text), Some(wanted));
        }
    }
}
