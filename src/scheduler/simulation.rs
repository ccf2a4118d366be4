//! Seeded simulation against a fake model.
