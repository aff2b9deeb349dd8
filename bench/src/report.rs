//! Prints the figures, as a Markdown table or as JSON lines.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use serde_json::json;

use crate::{
    data::Loaded,
    measure::{Line, Target, count},
};

/// Says what loading took.
pub(crate) fn loaded(target: &Target, load: Loaded, as_json: bool) {
    let rate = count(load.rows) / load.elapsed.as_secs_f64();
    let micros = load.server_cpu.as_secs_f64() * 1e6 / count(load.rows);
    if as_json {
        println!(
            "{}",
            json!({"target": target.name, "loaded": load.rows, "rate": rate, "server_cpu_micros": micros})
        );
    } else {
        println!(
            "{}: loaded {} rows, {rate:.0} rows/s, {micros:.2} µs of server CPU a row",
            target.name, load.rows
        );
    }
}

/// The heading of the table.
pub(crate) fn heading(as_json: bool) {
    if !as_json {
        println!(
            "| workload | in flight | server | ops/s | p50 µs | p99 µs | p999 µs | server CPU µs/op | client CPU µs/op | resident MiB |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    }
}

/// The lines of one workload, and the ratios when there are two.
pub(crate) fn lines(lines: &[Line], as_json: bool) {
    for line in lines {
        let at = |quantile| line.latency_micros.value_at_quantile(quantile);
        if as_json {
            println!(
                "{}",
                json!({"workload": line.workload.name(), "in_flight": line.in_flight, "target": line.target,
                    "rate": line.rate(), "p50_micros": at(0.5), "p99_micros": at(0.99), "p999_micros": at(0.999),
                    "server_cpu_micros": line.server_micros(), "client_cpu_micros": line.client_micros(),
                    "resident_kib": line.resident_kib})
            );
        } else {
            println!(
                "| {} | {} | {} | {:.0} | {} | {} | {} | {:.2} | {:.2} | {} |",
                line.workload.name(),
                line.in_flight,
                line.target,
                line.rate(),
                at(0.5),
                at(0.99),
                at(0.999),
                line.server_micros(),
                line.client_micros(),
                line.resident_kib / 1024,
            );
        }
    }
    if let [first, second] = lines
        && !as_json
    {
        let p99 = |line: &Line| count(line.latency_micros.value_at_quantile(0.99).max(1));
        println!(
            "| | | {}/{} | {:.2}x | | {:.2}x | | {:.2}x | | |",
            second.target,
            first.target,
            second.rate() / first.rate(),
            p99(second) / p99(first),
            second.server_micros() / first.server_micros(),
        );
    }
}
