//! The report as JUnit XML: a suite for each kernel, a test case for each scenario.

use super::Report;
use super::text::what_happened;
use crate::case::CaseResult;
use crate::class::Class;
use crate::outcome::Outcome;
use quick_junit::{
    NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestRerun, TestSuite,
};
use std::time::Duration;

impl Report {
    /// JUnit XML. What is wrong about a value is a failure, what kept a case from being judged an
    /// error, what does not apply is skipped.
    ///
    /// # Errors
    /// The text cannot be XML.
    pub fn to_junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut junit = Junit::new("bluetooth-metrics kernels");
        junit.set_time(Duration::from_millis(self.total_ms));
        for kernel in self.kernel_names() {
            let mut suite = TestSuite::new(kernel.as_str());
            suite.add_property(("release", self.release(&kernel)));
            let cases = self.results.iter();
            for result in cases.filter(|r| r.kernel.to_string() == kernel) {
                suite.add_test_case(self.test_case(result));
            }
            suite.add_test_cases(self.foretold_case(&kernel));
            junit.add_test_suite(suite);
        }
        junit.to_string()
    }

    fn test_case(&self, result: &CaseResult) -> TestCase {
        let mut case = TestCase::new(result.scenario.as_str(), self.status(result));
        case.set_classname(format!("vm.{}", result.kernel));
        case.set_time(Duration::from_millis(result.timings.total_ms()));
        if !result.class.is_right() {
            let console = result.evidence.console.join("\n");
            case.set_system_out(console);
        }
        case
    }

    fn status(&self, result: &CaseResult) -> TestCaseStatus {
        if result.class == Class::NotApplicable {
            let mut status = TestCaseStatus::skipped();
            status.set_message(result.outcome.detail());
            return status;
        }
        let mut status = if result.class.is_right() {
            TestCaseStatus::success()
        } else {
            let kind = match result.class {
                Class::Assertion | Class::Step | Class::Splat => NonSuccessKind::Failure,
                _ => NonSuccessKind::Error,
            };
            let mut lines = what_happened(result);
            lines.push(format!("again: {}", self.again(result)));
            let mut status = TestCaseStatus::non_success(kind);
            status
                .set_type(result.class.as_str())
                .set_message(result.outcome.detail())
                .set_description(lines.join("\n"));
            status
        };
        for earlier in &result.earlier {
            status.add_rerun(rerun(earlier));
        }
        status
    }
}

fn rerun(earlier: &Outcome) -> TestRerun {
    let mut rerun = TestRerun::new(NonSuccessKind::Error);
    rerun
        .set_type(earlier.class().as_str())
        .set_message(earlier.detail());
    rerun
}

#[cfg(test)]
mod tests {
    use crate::outcome::Outcome;
    use crate::report::samples::{died, differs, report};

    /// Check what other tools read.
    #[test]
    fn junit_tells_failures_errors_and_skips_apart() {
        let lacking = Outcome::NotApplicable {
            reason: "this kernel has no Bluetooth & more".to_owned(),
        };
        let junit = report(vec![lacking, differs(), died()]).to_junit().unwrap();
        insta::assert_snapshot!(junit);
    }
}
