// tensor/cuda/picked_rows.cu: embedding and its backward, gather and scatter, on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/picked_rows.cuh"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void embedding(TensorView y, TensorView table, const std::int32_t* tokens, cudaStream_t stream) {
    launch_copy_rows(StreamLaunch(stream, "embedding"), y, table, tokens);
}

void embedding_backward(TensorView dtable, TensorView dy, const DeviceTokenGroups& groups,
                        cudaStream_t stream) {
    launch_embedding_backward(StreamLaunch(stream, "embedding_backward"), dtable, dy, groups);
}

void gather_rows(TensorView y, TensorView x, const std::int64_t* rows, cudaStream_t stream) {
    launch_copy_rows(StreamLaunch(stream, "gather_rows"), y, x, rows);
}

void scatter_add_rows(TensorView y, TensorView x, const std::int64_t* rows, cudaStream_t stream) {
    launch_scatter_add_rows(StreamLaunch(stream, "scatter_add_rows"), y, x, rows);
}

}  // namespace fedit::cuda
