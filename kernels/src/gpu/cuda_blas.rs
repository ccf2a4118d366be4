//! Products of large matrices by cuBLASLt, opened at run time. Where the library is not installed, our own tile kernel
//! does them.
//!
//! cuBLAS is column-major: our row-major `out[rows, out_features]` is its `[out_features, rows]`, and `x * weight^T` is
//! `weight^T` (transposed) times `x`. One algorithm is looked up per shape and kept.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::Mutex;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::sys::CUstream;

use super::cuda::CudaDriver;
use super::cuda_error::ignore;
use super::driver::{Driver, MatrixProduct};
use super::error::GpuError;

/// What NVIDIA recommends for Hopper; enough for every algorithm.
const WORKSPACE_BYTES: usize = 32 << 20;

/// The library of CUDA 13, as the kernels are; cudarc takes an older one where it finds that first.
const VERSION_NEEDED: usize = 130_000;

/// `cublasOperation_t`: the matrix is transposed.
const CUBLAS_OP_T: i32 = 1;

pub(super) struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: u64,
    shapes: Mutex<HashMap<ShapeKey, Shape>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ShapeKey {
    rows: usize,
    in_features: usize,
    out_features: usize,
    weight_stride: usize,
}

/// Descriptors of one shape and the algorithm for it.
struct Shape {
    product: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Blas {
    /// `None` where the library is not installed, or only an older one. The workspace lives as long as the device's
    /// context.
    pub fn open(driver: &CudaDriver) -> Result<Option<Self>, GpuError> {
        // SAFETY: opens and closes the library; its initialisers are NVIDIA's.
        if !unsafe { sys::is_culib_present() } {
            return Ok(None);
        }
        // SAFETY: asks for a number.
        if unsafe { sys::cublasLtGetVersion() } < VERSION_NEEDED {
            return Ok(None);
        }
        let handle = result::create_handle().map_err(|error| failed("cublasLtCreate", error))?;
        let workspace = driver.allocate(WORKSPACE_BYTES)?;
        Ok(Some(Self { handle, workspace, shapes: Mutex::new(HashMap::new()) }))
    }

    /// # Safety
    /// The pointers are matrices of the sizes said, in the context of `stream`.
    pub unsafe fn multiply(&self, product: &MatrixProduct, stream: CUstream) -> Result<(), GpuError> {
        let MatrixProduct { rows, in_features, out_features, weight_stride, weight, x, out, is_added } = *product;
        if rows == 0 || out_features == 0 {
            return Ok(());
        }
        let key = ShapeKey { rows, in_features, out_features, weight_stride };
        let mut shapes = self.shapes.lock().expect("no thread panics while it holds the shapes");
        let shape = match shapes.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.describe(key)?),
        };
        let (alpha, beta) = (1.0_f32, if is_added { 1.0_f32 } else { 0.0 });
        // SAFETY: descriptors live as long as `self`; the caller says that the pointers are such matrices.
        let multiplied = unsafe {
            result::matmul(
                self.handle,
                shape.product,
                std::ptr::from_ref(&alpha).cast(),
                std::ptr::from_ref(&beta).cast(),
                weight as *const c_void,
                shape.weight,
                x as *const c_void,
                shape.x,
                out as *const c_void,
                shape.out,
                out as *mut c_void,
                shape.out,
                &shape.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE_BYTES,
                stream.cast(),
            )
        };
        multiplied.map_err(|error| failed("cublasLtMatmul", error))
    }

    fn describe(&self, key: ShapeKey) -> Result<Shape, GpuError> {
        let ShapeKey { rows, in_features, out_features, weight_stride } = key;
        let product =
            result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F)
                .map_err(|error| failed("cublasLtMatmulDescCreate", error))?;
        let transposed = CUBLAS_OP_T;
        // SAFETY: the descriptor was just made; the attribute is one operation.
        unsafe {
            result::set_matmul_desc_attribute(
                product,
                sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
                std::ptr::from_ref(&transposed).cast(),
                size_of_val(&transposed),
            )
        }
        .map_err(|error| failed("cublasLtMatmulDescSetAttribute", error))?;
        let layout = |kind, rows: usize, columns: usize, stride: usize| {
            result::create_matrix_layout(kind, rows as u64, columns as u64, stride as i64)
                .map_err(|error| failed("cublasLtMatrixLayoutCreate", error))
        };
        let bf16 = sys::cudaDataType::CUDA_R_16BF;
        let weight = layout(bf16, in_features, out_features, weight_stride)?;
        let x = layout(bf16, in_features, rows, in_features)?;
        let out = layout(sys::cudaDataType::CUDA_R_32F, out_features, rows, out_features)?;
        let preference =
            result::create_matmul_pref().map_err(|error| failed("cublasLtMatmulPreferenceCreate", error))?;
        // SAFETY: all descriptors were just made; the attribute is one size.
        let found = unsafe {
            result::set_matmul_pref_attribute(
                preference,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                std::ptr::from_ref(&WORKSPACE_BYTES).cast(),
                size_of::<usize>(),
            )
            .and_then(|()| result::get_matmul_algo_heuristic(self.handle, product, weight, x, out, out, preference))
        };
        // SAFETY: made above and destroyed once.
        ignore(unsafe { result::destroy_matmul_pref(preference) });
        let algorithm = found.map_err(|error| failed("cublasLtMatmulAlgoGetHeuristic", error))?.algo;
        Ok(Shape { product, weight, x, out, algorithm })
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        let shapes = self.shapes.get_mut().expect("no thread panics while it holds the shapes");
        for shape in shapes.values() {
            // SAFETY: made by us and destroyed once.
            unsafe {
                ignore(result::destroy_matmul_desc(shape.product));
                for layout in [shape.weight, shape.x, shape.out] {
                    ignore(result::destroy_matrix_layout(layout));
                }
            }
        }
        // SAFETY: made by us and destroyed once; `CudaDriver` has bound its context.
        unsafe {
            ignore(result::destroy_handle(self.handle));
            ignore(cudarc::driver::result::free_sync(self.workspace));
        }
    }
}

fn failed(call: &'static str, error: CublasError) -> GpuError {
    GpuError::Call { call, message: error.to_string() }
}
