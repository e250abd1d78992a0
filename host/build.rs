//! The migrations are compiled in, which cargo does not see by itself.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
