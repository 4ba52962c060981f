module homeport/bench/loadgen

go 1.24
