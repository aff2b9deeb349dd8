//! Tests of `decimal`.

use super::*;

#[test]
fn numbers_compare_by_value_whatever_their_scale() {
    let ascending = [
        "-1e400",
        "-10",
        "-9.99",
        "-0.1",
        "-1e-400",
        "0",
        "1e-400",
        "0.5",
        "1",
        "1.01",
        "99",
        "1e2000000000",
    ];
    let numbers: Vec<Decimal> = ascending.iter().map(|text| text.parse().unwrap()).collect();
    for (place, left) in numbers.iter().enumerate() {
        for (other_place, right) in numbers.iter().enumerate() {
            assert_eq!(left.compare(right), place.cmp(&other_place), "{left} {right}");
        }
    }
    for (left, right) in [("1.0", "1.000"), ("0", "0.00"), ("-100", "-1e2")] {
        let [left, right] = [left, right].map(|text| text.parse::<Decimal>().unwrap());
        assert_eq!(left.compare(&right), Ordering::Equal);
        assert_eq!(left.to_digits(), right.to_digits());
    }
}

#[test]
fn digits_give_the_number_back() {
    for text in ["-12.340", "1e400", "100", "0.00", "7"] {
        let number: Decimal = text.parse().unwrap();
        let again = Decimal::from_digits(&number.to_digits()).unwrap();
        assert_eq!(again.compare(&number), Ordering::Equal, "{text}");
    }
}

#[test]
fn extreme_scales_are_errors_or_numbers_but_never_hang() {
    for scale in [i32::MIN, i32::MAX] {
        let number = Decimal { unscaled: 1000.into(), scale };
        assert_eq!(
            Decimal::from_digits(&number.to_digits()).unwrap().compare(&number),
            Ordering::Equal
        );
    }
    let far = DecimalDigits { is_negative: false, exponent: i64::MIN, digits: vec![1] };
    assert!(Decimal::from_digits(&far).is_err());
}
