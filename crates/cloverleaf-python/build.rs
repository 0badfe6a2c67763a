//! Tells the compiler which Python this is: `Py_3_12`, `Py_GIL_DISABLED` and their like.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
