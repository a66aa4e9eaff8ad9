//! Finding out whether a chart's output depends on the order in which sprig's
//! `keys` and `values` come, which is another one in every run, and by chance the
//! same in two. The chart is rendered with all of them sorted, and once more with
//! all of them the other way round: what depends on the order differs.

use super::actions::{self, Rules};

/// Where the helper is put.
pub(super) const HELPER_FILE: &str = "templates/_kukeon-order.tpl";

/// Which way they are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// By name.
    Up,
    /// The other way round.
    Down,
}

/// The functions, and what is called instead: it gives their list as JSON.
const RULES: Rules = Rules {
    other: &[],
    asking: &["keys", "values"],
    call: " | include `kukeon.order` | fromJsonArray",
};

/// A template that calls the helper. `None` where it asks for no such list.
pub(super) fn ordered(text: &str) -> Option<String> {
    actions::replaced(text, &RULES)
}

/// What is called with a list of the function's name and its arguments.
pub(super) fn helper(order: Order) -> String {
    let way = match order {
        Order::Up => "",
        Order::Down => " | reverse",
    };
    format!(
        r#"{{{{- define "kukeon.order" -}}}}
{{{{- $out := list -}}}}
{{{{- $name := index . 0 -}}}}
{{{{- range $dict := rest . -}}}}
{{{{- range $key := keys $dict | sortAlpha{way} -}}}}
{{{{- if eq $name "keys" -}}}}
{{{{- $out = append $out $key -}}}}
{{{{- else -}}}}
{{{{- $out = append $out (get $dict $key) -}}}}
{{{{- end -}}}}
{{{{- end -}}}}
{{{{- end -}}}}
{{{{- toJson $out -}}}}
{{{{- end -}}}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_are_replaced() {
        for text in [
            "",
            "keys",
            "{{ .keys }}",
            "{{ .Values.values }}",
            "{{ \"keys\" }}",
        ] {
            assert_eq!(ordered(text), None, "{text:?}");
        }
        let cases = [
            (
                "{{ range $k := keys .m | sortAlpha }}",
                "{{ range $k := list `keys` .m CALL| sortAlpha }}",
            ),
            (
                "{{ first (values .m) }}",
                "{{ first (list `values` .mCALL) }}",
            ),
            ("{{- .m | keys -}}", "{{- .m | list `keys`CALL -}}"),
        ];
        for (text, wanted) in cases {
            let wanted = wanted.replace("CALL", RULES.call);
            assert_eq!(ordered(text), Some(wanted));
        }
    }
}
