// A hall of 16 m x 9 m with five round pillars. Lengths are metres.
// Make the mesh with:  gmsh -2 pillars.geo -o pillars.msh
SetFactory("OpenCASCADE");

Rectangle(1) = {0, 0, 0, 16, 9};
Disk(2) = {8, 4.5, 0, 0.9};
Disk(3) = {5.8, 2.2, 0, 0.6};
Disk(4) = {5.8, 6.8, 0, 0.6};
Disk(5) = {10.2, 2.2, 0, 0.6};
Disk(6) = {10.2, 6.8, 0, 0.6};
BooleanDifference{ Surface{1}; Delete; }{ Surface{2:6}; Delete; }

e = 0.01;
floor() = Surface{:};
pillars() = Curve In BoundingBox {4, 1, -e, 12, 8, e};
walls() = Curve{:};
walls() -= pillars();

Physical Surface("floor") = floor();
Physical Curve("pillars") = pillars();
Physical Curve("walls") = walls();

Mesh.MeshSizeMax = 0.34;
Mesh.MeshSizeFromCurvature = 18;
Mesh.Algorithm = 6;
Mesh.MshFileVersion = 4.1;
