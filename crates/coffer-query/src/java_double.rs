//! Doubles as Java prints them, for texts that must read like Cassandra's.

/// `Double.toString`: plain between 1e-3 and 1e7, else with an exponent; always with a point.
pub(crate) fn java_double(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() || (1e-3..1e7).contains(&size) {
        return match value {
            value if value.is_nan() => "NaN".to_owned(),
            value if value.is_infinite() => {
                if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
            }
            value => format!("{value:?}"),
        };
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::java_double;

    #[test]
    fn doubles_read_as_java_prints_them() {
        let cases = [
            (0.01, "0.01"),
            (1.0, "1.0"),
            (0.0, "0.0"),
            (1e-6, "1.0E-6"),
            (1.5e-4, "1.5E-4"),
            (-0.1, "-0.1"),
            (12_345_678.0, "1.2345678E7"),
        ];
        for (value, text) in cases {
            assert_eq!(java_double(value), text);
        }
    }
}
