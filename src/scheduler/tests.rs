//! Tests of single decisions of the scheduler.
