// A street of 6 m x 6 m, whose sides x = 0 and x = 6 match, and a round intruder in its middle.
// Make the mesh with:  gmsh -2 intruder.geo -o intruder.msh
SetFactory("OpenCASCADE");
size = 0.16;  // of cells far from the intruder
fine = 0.0125; // at its edge
Rectangle(1) = {0, 0, 0, 6, 6};
Disk(2) = {3, 3, 0, 0.37};
BooleanFragments{ Surface{1}; Delete; }{ Surface{2}; Delete; }
Periodic Curve{Curve In BoundingBox{6 - 1e-3, -1e-3, -1e-3, 6 + 1e-3, 6 + 1e-3, 1e-3}} = {Curve In BoundingBox{-1e-3, -1e-3, -1e-3, 1e-3, 6 + 1e-3, 1e-3}} Translate{6, 0, 0};
Physical Curve("west") = {Curve In BoundingBox{-1e-3, -1e-3, -1e-3, 1e-3, 6 + 1e-3, 1e-3}};
Physical Curve("east") = {Curve In BoundingBox{6 - 1e-3, -1e-3, -1e-3, 6 + 1e-3, 6 + 1e-3, 1e-3}};
Physical Curve("south") = {Curve In BoundingBox{-1e-3, -1e-3, -1e-3, 6 + 1e-3, 1e-3, 1e-3}};
Physical Curve("north") = {Curve In BoundingBox{-1e-3, 6 - 1e-3, -1e-3, 6 + 1e-3, 6 + 1e-3, 1e-3}};
Physical Surface("street") = Surface{:};
Field[1] = Distance;
Field[1].CurvesList = {Curve In BoundingBox{2, 2, -1e-3, 4, 4, 1e-3}};
Field[1].Sampling = 200;
Field[2] = Threshold;
Field[2].InField = 1;
Field[2].SizeMin = fine; Field[2].SizeMax = size;
Field[2].DistMin = 0.1; Field[2].DistMax = 2;
Background Field = 2;
Mesh.MeshSizeExtendFromBoundary = 0; Mesh.MeshSizeFromPoints = 0; Mesh.MeshSizeFromCurvature = 0;
